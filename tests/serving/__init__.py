"""Tests of `include/serving`."""

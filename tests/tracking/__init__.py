"""Tests of `include/tracking`."""

"""Tests of `include/models`."""

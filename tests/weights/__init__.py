"""Tests of `include/weights`."""

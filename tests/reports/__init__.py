"""Tests of `include/reports`."""

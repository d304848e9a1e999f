"""Tests of `include/claim`."""

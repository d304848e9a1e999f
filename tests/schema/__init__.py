"""Tests of `include/schema`."""

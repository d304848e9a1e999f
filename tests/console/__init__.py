"""Tests of `include/console`."""

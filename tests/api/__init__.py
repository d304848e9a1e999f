"""Tests of `include/api`."""

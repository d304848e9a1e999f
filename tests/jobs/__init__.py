"""Tests of `include/jobs`."""

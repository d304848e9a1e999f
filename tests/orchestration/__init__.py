"""Tests of `include/orchestration`."""

"""Tests of `include/training`."""

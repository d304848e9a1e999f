"""Tests of `include/stack`."""

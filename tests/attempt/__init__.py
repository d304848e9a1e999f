"""Tests of `include/attempt`."""

"""Tests of `include/pictures`."""

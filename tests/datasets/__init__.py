"""Tests of `include/datasets`."""

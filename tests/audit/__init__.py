"""Tests of `include/audit`."""

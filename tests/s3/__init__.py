"""Tests of `include/s3`."""

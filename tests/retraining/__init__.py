"""Tests of `include/retraining`."""

"""Tests of `include/checkpoints`."""

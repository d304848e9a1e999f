"""Tests of `include/tasks`."""

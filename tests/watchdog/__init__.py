"""Tests of `include/watchdog`."""

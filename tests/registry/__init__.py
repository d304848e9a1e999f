"""Tests of include/registry."""

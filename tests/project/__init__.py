"""Tests of the repository itself: documentation, imports, checks, benchmarks."""

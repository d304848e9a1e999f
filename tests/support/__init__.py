"""Servers, training runs, browsers and other helpers that the tests use."""

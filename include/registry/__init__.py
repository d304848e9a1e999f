"""Registered datasets: immutable versions of training data, each with a name and a number."""

"""Registered datasets: immutable versions of what people train on, each with a name and a number."""

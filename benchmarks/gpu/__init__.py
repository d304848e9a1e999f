"""Benchmarks on a GPU: `python -m benchmarks.gpu`, or `make bench-gpu`.

A single command for a machine that is available for a quarter of an hour: torch and the usual scientific
packages, no network, no Airflow, S3 or PostgreSQL. docs/gpu.md explains what is measured.
"""

"""Benchmarks on a GPU: `python -m benchmarks.gpu`, or `make bench-gpu`.

A single command is enough for a machine that is available for only a quarter of an hour: it measures for
eight minutes unless --minutes says otherwise. It needs torch and the usual scientific packages, but no
network, Airflow, S3 or PostgreSQL. docs/gpu.md explains what is measured.
"""

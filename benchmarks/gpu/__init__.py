"""Benchmarks on a GPU: `python -m benchmarks.gpu`, or `make bench-gpu`.

The command measures for eight minutes (--minutes), so a machine that is available for a quarter of an hour is
enough. It needs torch and the usual scientific packages, but no network, Airflow, S3 or PostgreSQL.
docs/gpu.md explains what is measured.
"""

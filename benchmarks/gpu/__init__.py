"""What this project does on a GPU: `python -m benchmarks.gpu`, or `make bench-gpu`.

One command for a machine that is there for a quarter of an hour: torch and the usual scientific packages, no
network, no Airflow, S3 or PostgreSQL. docs/gpu.md says what is measured.
"""

"""Mirrors jobs from PostgreSQL to MLflow: one MLflow run per training run."""

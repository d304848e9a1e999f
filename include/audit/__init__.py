"""Compares PostgreSQL with S3 (lost objects, orphans, stuck jobs); deletes old states, jobs and datasets."""

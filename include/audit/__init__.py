"""Postgres and S3 compared: what is missing, damaged, orphaned or stuck; and which states may go."""

"""Comparing PostgreSQL with S3 to find lost and orphaned objects and stuck jobs; retention; deletion."""

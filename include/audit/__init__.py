"""Comparing PostgreSQL with S3 to find missing, damaged, orphaned or stuck things; and retention."""

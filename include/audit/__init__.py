"""Audits that compare PostgreSQL with S3 (lost objects, orphans, stuck jobs); retention; and deletion."""

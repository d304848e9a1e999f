"""The schema of the training tables: rehearses, applies and verifies the revisions in sql/migrations."""

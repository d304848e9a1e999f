"""The schema of the training tables: plans, applies and verifies the revisions in sql/migrations."""

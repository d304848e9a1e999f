"""The schema of the training tables: planning, applying and verifying the revisions in sql/migrations."""

"""MLflow as a mirror of what Postgres says of a job: one run there for each training."""

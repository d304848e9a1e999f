"""Initial weights of training runs: finding those that `model` names, and storing them in S3 for all jobs."""

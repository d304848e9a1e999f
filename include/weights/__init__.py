"""Initial weights of trainings: finding those that `model` names, and storing them in S3 for all jobs."""

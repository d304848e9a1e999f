"""The weights that a training starts from: found by what `model` names, and stored in S3 for all jobs."""

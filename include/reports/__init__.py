"""What a check of a dataset found, all of it, beside the checkpoints in S3."""

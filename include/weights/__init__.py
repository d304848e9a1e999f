"""Finds the initial weights that `model` refers to, and stores pretrained ones in S3 for all jobs."""

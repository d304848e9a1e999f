"""Complete reports of dataset checks, stored in S3."""

"""Training jobs: the request (TrainingSpec), its record (TrainingJob) and their storage (JobRepository)."""

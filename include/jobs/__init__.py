"""Training jobs: what is asked for (TrainingSpec), what is recorded (TrainingJob), where (JobRepository)."""

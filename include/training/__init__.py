"""The trainer: torch and Ultralytics, nothing else. It knows neither Airflow nor S3 nor Postgres."""

"""Code that all Airflow tasks share: parameters, retries, failures, notes and assets."""

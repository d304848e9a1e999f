"""What Airflow's tasks have in common: parameters, retries, failures, and what runs leave behind."""

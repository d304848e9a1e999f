"""The local stack: PostgreSQL, an S3 server and Airflow from wheels, without root and without Docker."""

"""The local stack: PostgreSQL, an S3 server and Airflow, as plain processes. See `make help`."""

"""The local stack: PostgreSQL, an S3 server and Airflow as ordinary processes. See `make help`."""

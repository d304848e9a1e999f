#!/bin/bash
# Runs once, when PostgreSQL's data folder is empty: a database and an owner for Airflow, and one for the trainings.
set -euo pipefail

psql --variable ON_ERROR_STOP=1 --username postgres <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv training_password TRAINING_DB_PASSWORD
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE DATABASE airflow OWNER airflow;
CREATE ROLE training LOGIN PASSWORD :'training_password';
CREATE DATABASE training OWNER training;
REVOKE CONNECT ON DATABASE airflow, training FROM PUBLIC;
SQL

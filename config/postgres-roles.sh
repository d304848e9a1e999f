#!/bin/bash
# Runs whenever the services start: creates missing roles and databases, and sets the roles' passwords to those in .env.
# psql reads the server and the superuser from PGHOST, PGUSER and PGPASSWORD.
set -euo pipefail

psql --no-psqlrc --quiet --variable ON_ERROR_STOP=1 --dbname postgres <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv owner_password TRAINING_DB_PASSWORD
\getenv application_password TRAINING_APP_DB_PASSWORD

-- training owns the training tables, and training_app reads and writes their rows.
SELECT format('CREATE ROLE %I LOGIN', wanted.role)
FROM unnest(ARRAY['airflow', 'training', 'training_app']) AS wanted (role)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.role)
\gexec
ALTER ROLE airflow PASSWORD :'airflow_password';
ALTER ROLE training PASSWORD :'owner_password';
ALTER ROLE training_app PASSWORD :'application_password';

SELECT format('CREATE DATABASE %I OWNER %I', wanted.name, wanted.name)
FROM unnest(ARRAY['airflow', 'training']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = wanted.name)
\gexec
REVOKE CONNECT ON DATABASE airflow, training FROM PUBLIC;
GRANT CONNECT ON DATABASE training TO training_app;
SQL

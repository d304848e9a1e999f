-- Waits for transactions that are recording jobs with the version: see hold_dataset_version.sql.
SELECT version
FROM datasets
WHERE name = %(name)s
    AND version = %(version)s
FOR UPDATE;

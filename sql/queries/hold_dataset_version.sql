-- Keeps the version from being deleted until the transaction that records a job that uses it has ended.
SELECT version
FROM datasets
WHERE name = %(dataset_name)s
    AND version = %(dataset_version)s
FOR KEY SHARE;

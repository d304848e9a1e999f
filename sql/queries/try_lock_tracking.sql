-- Held until the transaction ends. The key tells it from every other advisory lock.
SELECT pg_try_advisory_xact_lock(hashtextextended('mlflow/' || %(job_id)s, 0)) AS locked;

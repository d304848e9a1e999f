-- Held until the transaction ends. The key distinguishes it from all other advisory locks.
SELECT pg_try_advisory_xact_lock(hashtextextended('mlflow/' || %(job_id)s, 0)) AS locked;

-- The lock is held until the transaction ends. Its key distinguishes it from all other advisory locks.
SELECT pg_try_advisory_xact_lock(hashtextextended('mlflow/' || %(job_id)s, 0)) AS locked;

-- The lock is held until the transaction ends, so that only one claim per user runs at a time.
SELECT pg_advisory_xact_lock(hashtextextended('training_quota ' || %(triggered_by)s::text, 0));

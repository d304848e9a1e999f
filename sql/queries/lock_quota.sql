-- The lock is held until the transaction ends: one claim of a user at a time.
SELECT pg_advisory_xact_lock(hashtextextended('training_quota ' || %(triggered_by)s::text, 0));

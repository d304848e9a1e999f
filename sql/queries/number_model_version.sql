-- Until the end of the transaction, no other session gets a number for this model. The transaction is idle while a file
-- is being copied: a host application's time limit must not end it, but it must end if its client's machine is gone.
SELECT
    set_config('idle_in_transaction_session_timeout', '15min', TRUE),
    pg_advisory_xact_lock(hashtextextended('number of a version of model ' || %(name)s, 0));

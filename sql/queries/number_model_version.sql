-- Until the end of the transaction nobody else gets a number for this model. While a file is copied the
-- transaction is idle: a platform's own limit must not end it, and that of a machine which is gone has to end.
SELECT
    set_config('idle_in_transaction_session_timeout', '15min', TRUE),
    pg_advisory_xact_lock(hashtextextended('number of a version of model ' || %(name)s, 0));

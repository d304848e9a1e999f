-- False if somebody else promotes a version of this model just now. While a file is copied the transaction is
-- idle: a platform's own limit must not end it, and that of a machine which is gone has to end.
SELECT
    pg_try_advisory_xact_lock(hashtextextended('production of model ' || %(name)s, 0)) AS locked,
    set_config('idle_in_transaction_session_timeout', '15min', TRUE);

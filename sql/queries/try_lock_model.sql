-- False if another session is promoting a version of this model. The transaction is idle while a file is being copied:
-- a host application's time limit must not end it, but it must end if its client's machine is gone.
SELECT
    pg_try_advisory_xact_lock(hashtextextended('production of model ' || %(name)s, 0)) AS locked,
    set_config('idle_in_transaction_session_timeout', '15min', TRUE);

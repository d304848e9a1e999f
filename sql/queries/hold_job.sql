-- Until the end of the transaction, the job is not deleted and its state does not expire: see lock_jobs.sql.
SELECT
    best_checkpoint_sha256::text AS best_checkpoint_sha256,
    last_checkpoint_expired_at IS NOT NULL AS is_expired
FROM training_jobs
WHERE job_id = %(job_id)s
FOR SHARE;

-- The first step of a deletion: from now on, the row names no object, so it never names a missing one. All reasons to
-- keep a job are checked again here, after lock_jobs.sql, and a row that has changed in the meantime is kept as well.
-- updated_at is not changed, for the reason given in expire_states.sql.
UPDATE training_jobs AS job
SET
    -- include: names_no_object
    last_checkpoint_expired_at = COALESCE(job.last_checkpoint_expired_at, now())
WHERE job.job_id = %(job_id)s
    AND job.run_id = %(run_id)s
    AND job.status::text IN ('completed', 'failed', 'stopped')
    AND -- include: job_is_not_needed
RETURNING job.job_id::text;

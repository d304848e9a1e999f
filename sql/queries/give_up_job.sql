-- The first step of a deletion: a row never names what is not there. Whatever keeps a job keeps it here again, and so
-- does a row that is another by now.
UPDATE training_jobs AS job
SET
    -- include: names_no_object
    last_checkpoint_expired_at = COALESCE(job.last_checkpoint_expired_at, now()),
    updated_at = now()
WHERE job.job_id = %(job_id)s
    AND job.run_id = %(run_id)s
    AND job.status::text IN ('completed', 'failed', 'stopped')
    AND -- include: job_is_not_needed
RETURNING job.job_id::text;

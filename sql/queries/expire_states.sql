-- Marked first, deleted afterwards: a row never names what is not there. Whatever kept a state when they were
-- chosen keeps it here again, and so does a row that is another by now.
UPDATE training_jobs AS job
SET
    last_checkpoint_expired_at = now(),
    last_checkpoint_path = NULL,
    last_checkpoint_sha256 = NULL,
    last_checkpoint_size = NULL,
    updated_at = now()
FROM expiring_states AS chosen
WHERE chosen.job_id = job.job_id
    AND job.job_id = ANY(%(job_ids)s::text[])
    AND job.run_id = chosen.run_id
    AND job.status::text = chosen.status
    AND job.last_checkpoint_expired_at IS NULL
    AND -- include: job_is_not_needed
RETURNING job.job_id::text AS job_id;

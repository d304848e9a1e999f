-- States are marked first and deleted afterwards, so that a row never names a missing object. All reasons to keep a
-- state are checked again here, after lock_jobs.sql, and a row that has changed since it was selected keeps its state as
-- well.
-- updated_at is not changed: for a job that failed or was stopped, it is the only record of when the job ended.
UPDATE training_jobs AS job
SET
    last_checkpoint_expired_at = now(),
    last_checkpoint_path = NULL,
    last_checkpoint_sha256 = NULL,
    last_checkpoint_size = NULL
FROM unnest(%(job_ids)s::text[], %(run_ids)s::text[], %(statuses)s::text[]) AS chosen (job_id, run_id, status)
WHERE chosen.job_id = job.job_id
    AND job.job_id = ANY(%(job_ids)s::text[])
    AND job.run_id = chosen.run_id
    AND job.status::text = chosen.status
    AND job.last_checkpoint_expired_at IS NULL
    AND -- include: job_is_not_needed
RETURNING job.job_id::text AS job_id;

-- The training reads it at the end of each epoch. A job that has ended has nothing to stop.
UPDATE training_jobs
SET
    stop_requested = TRUE,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND status IN ('queued', 'running')
RETURNING job_id;

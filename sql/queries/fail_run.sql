-- Applies only to a job that this run owns: one that is queued or running or, with `again`, one that has failed.
UPDATE training_jobs
SET
    status = 'failed',
    stop_requested = FALSE,
    stop_after_epoch = NULL,
    error = %(error)s,
    updated_at = now()
WHERE dag_id = %(dag_id)s
    AND run_id = %(run_id)s
    AND (status IN ('queued', 'running') OR (status = 'failed' AND %(again)s))
RETURNING job_id::text;

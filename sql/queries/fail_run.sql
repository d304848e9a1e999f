-- Applies only to a job that this run owns: one that is queued or running or, with `again`, one that has failed. If an
-- attempt at training failed, a newer attempt must not have started: Airflow may have given up on one that was alive.
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
    AND COALESCE(attempt <= %(attempt)s::integer, TRUE)
RETURNING job_id::text;

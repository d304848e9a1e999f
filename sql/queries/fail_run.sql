-- Only a job that this run owns and that has not ended. Running it again writes nothing.
UPDATE training_jobs
SET
    status = 'failed',
    error = %(error)s,
    updated_at = now()
WHERE dag_id = %(dag_id)s
    AND run_id = %(run_id)s
    AND status IN ('queued', 'running')
RETURNING job_id::text;

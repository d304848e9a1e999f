UPDATE training_jobs
SET
    status = 'failed',
    stop_requested = FALSE,
    stop_after_epoch = NULL,
    error = %(error)s,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id IS NULL
    AND status = 'queued';

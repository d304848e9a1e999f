-- An attempt has its data and its GPU: the job is running from now on, even while its state is still being fetched.
-- Writes and returns nothing if the attempt does not own the job, or if the job was cancelled first (cancel_job.sql).
UPDATE training_jobs
SET
    status = 'running',
    waited_seconds = CASE
        WHEN status = 'queued' AND queued_at IS NOT NULL
            THEN COALESCE(waited_seconds, 0) + extract(epoch FROM now() - queued_at)
        ELSE waited_seconds
    END,
    started_at = COALESCE(started_at, now()),
    -- Restarting a job that had ended overrides any earlier request to stop.
    stop_requested = COALESCE(stop_requested AND status IN ('queued', 'running'), FALSE),
    stop_after_epoch = CASE WHEN status IN ('queued', 'running') THEN stop_after_epoch END,
    attempt = %(attempt)s,
    machine = %(machine)s,
    gpu_name = %(gpu_name)s,
    gpu_driver = %(gpu_driver)s,
    error = NULL,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND (attempt IS NULL OR attempt <= %(attempt)s)
    AND NOT (status = 'stopped' AND COALESCE(stop_requested, FALSE))
RETURNING job_id;

-- An attempt has its GPU: the job runs from now on, while its data and its state are still being fetched. Nothing is
-- written, or returned, where cancel_job.sql was faster.
UPDATE training_jobs
SET
    status = 'running',
    waited_seconds = CASE
        WHEN status = 'queued' AND queued_at IS NOT NULL
            THEN COALESCE(waited_seconds, 0) + extract(epoch FROM now() - queued_at)
        ELSE waited_seconds
    END,
    started_at = COALESCE(started_at, now()),
    -- A job that had ended and begins again is wanted, whatever was asked for before.
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

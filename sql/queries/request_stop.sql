-- The trainer reads the request every few seconds. A job that has ended cannot be stopped. A later request to stop
-- after the batch replaces one to stop after the epoch.
UPDATE training_jobs
SET
    stop_after_epoch = %(after_epoch)s AND (stop_requested IS NOT TRUE OR stop_after_epoch IS TRUE),
    stop_requested = TRUE,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND status IN ('queued', 'running');

-- The training reads it every few seconds. A job that has ended has nothing to stop. What is to stop now is not
-- asked to wait for its epoch's end any more.
UPDATE training_jobs
SET
    stop_after_epoch = %(after_epoch)s AND (stop_requested IS NOT TRUE OR stop_after_epoch IS TRUE),
    stop_requested = TRUE,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND status IN ('queued', 'running')
RETURNING job_id;

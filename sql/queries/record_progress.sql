-- Writes nothing, and returns nothing, if the attempt does not own the job any more.
UPDATE training_jobs
SET
    batch = %(batch)s,
    batches = %(batches)s,
    trained_seconds = %(trained_seconds)s,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND COALESCE(attempt, %(attempt)s) = %(attempt)s
RETURNING
    COALESCE(stop_requested, FALSE),
    COALESCE(stop_after_epoch, FALSE);

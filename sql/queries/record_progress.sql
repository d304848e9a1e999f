-- Writes and returns nothing if the attempt no longer owns the job. Progress that arrives after the end of its epoch
-- leaves the recorded batch unchanged.
UPDATE training_jobs
SET
    epoch_batch = CASE WHEN COALESCE(epoch, -1) <= %(epoch)s THEN %(batch)s ELSE epoch_batch END,
    epoch_batches = %(batches)s,
    trained_seconds = GREATEST(trained_seconds, %(trained_seconds)s),
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND COALESCE(attempt, %(attempt)s) = %(attempt)s
RETURNING
    COALESCE(stop_requested, FALSE) AS stop_requested,
    COALESCE(stop_after_epoch, FALSE) AS stop_after_epoch;

-- A late report of an upload must not hide a newer upload.
UPDATE training_jobs
SET
    durable_batch = CASE
        WHEN (durable_epoch, COALESCE(durable_batch, 0)) > (%(epoch)s, %(batch)s) THEN durable_batch
        ELSE %(batch)s
    END,
    durable_epoch = GREATEST(durable_epoch, %(epoch)s),
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND COALESCE(attempt, %(attempt)s) = %(attempt)s
RETURNING durable_epoch;

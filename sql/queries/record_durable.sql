-- An upload that was reported late must not hide a newer one.
UPDATE training_jobs
SET
    durable_epoch = GREATEST(durable_epoch, %(epoch)s),
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND COALESCE(attempt, %(attempt)s) = %(attempt)s
RETURNING durable_epoch;

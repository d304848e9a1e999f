-- The last thing a training writes: what this row names exists in S3 and was verified there.
UPDATE training_jobs
SET
    status = 'completed',
    epoch = %(epoch)s,
    metrics = %(metrics)s::jsonb,
    best_checkpoint_path = %(best_checkpoint_path)s,
    best_checkpoint_sha256 = %(best_checkpoint_sha256)s,
    best_checkpoint_size = %(best_checkpoint_size)s,
    last_checkpoint_path = %(last_checkpoint_path)s,
    last_checkpoint_sha256 = %(last_checkpoint_sha256)s,
    last_checkpoint_size = %(last_checkpoint_size)s,
    error = NULL,
    completed_at = COALESCE(completed_at, now()),
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
RETURNING job_id;

-- An attempt begins: until it ends, the row names no objects, because the attempt replaces them.
UPDATE training_jobs
SET
    status = 'running',
    best_checkpoint_path = NULL,
    best_checkpoint_sha256 = NULL,
    best_checkpoint_size = NULL,
    last_checkpoint_path = NULL,
    last_checkpoint_sha256 = NULL,
    last_checkpoint_size = NULL,
    error = NULL,
    completed_at = NULL,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
RETURNING job_id;

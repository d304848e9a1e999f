-- The last write of a training run: the recorded objects exist in S3 and were verified there. The job's new status is
-- completed, or stopped on request; either way the job has ended, so no request to stop is pending.
-- If no run owns the row, the job was trained elsewhere and was reported as complete. If the job's state has expired since
-- then, nothing is written, because last.pt no longer exists.
UPDATE training_jobs
SET
    status = %(status)s,
    stop_requested = FALSE,
    stop_after_epoch = NULL,
    -- A job that was stopped in its first epoch has not finished any.
    epoch = NULLIF(%(epoch)s::integer, -1),
    epoch_batch = %(batch)s::integer,
    durable_epoch = %(epoch)s::integer,
    durable_batch = %(batch)s::integer,
    epochs = COALESCE(%(epochs)s::integer, epochs),
    metrics = %(metrics)s::jsonb,
    best_checkpoint_path = %(best_checkpoint_path)s,
    best_checkpoint_sha256 = %(best_checkpoint_sha256)s,
    best_checkpoint_size = %(best_checkpoint_size)s,
    last_checkpoint_path = %(last_checkpoint_path)s,
    last_checkpoint_sha256 = %(last_checkpoint_sha256)s,
    last_checkpoint_size = %(last_checkpoint_size)s,
    error = NULL,
    -- COALESCE casts the parameter to the type of the column, which may be a host application's enum.
    completed_at = CASE WHEN COALESCE(%(status)s, status) = 'completed' THEN COALESCE(completed_at, now()) END,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id IS NOT DISTINCT FROM %(run_id)s
    AND last_checkpoint_expired_at IS NULL
RETURNING job_id;

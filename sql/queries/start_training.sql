-- An attempt begins: from here on no older one writes, and until it ends the row names no objects, because it
-- replaces them. Where epochs are repeated, the row goes back to the one before them, in what is durable too.
UPDATE training_jobs
SET
    status = 'running',
    -- A job that had ended and begins again is wanted, whatever was asked for before.
    stop_requested = COALESCE(stop_requested AND status = 'running', FALSE),
    attempt = %(attempt)s,
    epoch = CASE WHEN epoch >= %(first_epoch)s THEN NULLIF(%(first_epoch)s - 1, -1) ELSE epoch END,
    durable_epoch = CASE
        WHEN durable_epoch >= %(first_epoch)s THEN NULLIF(%(first_epoch)s - 1, -1)
        ELSE durable_epoch
    END,
    metrics = CASE
        WHEN epoch >= %(first_epoch)s THEN (
            SELECT recorded.metrics
            FROM training_epochs AS recorded
            WHERE recorded.job_id = training_jobs.job_id
                AND recorded.epoch = %(first_epoch)s - 1
        )
        ELSE to_jsonb(metrics)
    END,
    best_checkpoint_path = NULL,
    best_checkpoint_sha256 = NULL,
    best_checkpoint_size = NULL,
    last_checkpoint_path = NULL,
    last_checkpoint_sha256 = NULL,
    last_checkpoint_size = NULL,
    last_checkpoint_expired_at = NULL,
    origin = CASE WHEN origin::text = 'external' THEN NULL ELSE origin END,
    checkpoint_uploader = NULL,
    checkpoint_finding = NULL,
    error = NULL,
    completed_at = NULL,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND (attempt IS NULL OR attempt <= %(attempt)s)
RETURNING job_id;

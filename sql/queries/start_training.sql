-- An attempt begins to train: from here on no older one writes, and until it ends the row names no objects, because it
-- replaces them. Where epochs or batches are repeated, the row goes back to what the attempt begins with, in what
-- is durable too, and the time that went into them is lost. Nothing is written, or returned, where the failure of this
-- attempt is recorded already, because somebody has marked its task or its run by hand: that reason stays.
UPDATE training_jobs
SET
    status = 'running',
    attempt = %(attempt)s,
    epoch = CASE WHEN epoch >= %(first_epoch)s THEN NULLIF(%(first_epoch)s - 1, -1) ELSE epoch END,
    epoch_batch = NULLIF(%(batch)s::integer, 0),
    durable_batch = CASE
        WHEN (durable_epoch, COALESCE(durable_batch, 0)) > (%(first_epoch)s - 1, %(batch)s::integer) THEN %(batch)s
        ELSE durable_batch
    END,
    durable_epoch = CASE
        WHEN durable_epoch IS NULL OR (%(first_epoch)s = 0 AND %(batch)s::integer = 0) THEN NULL
        ELSE LEAST(durable_epoch, %(first_epoch)s - 1)
    END,
    lost_seconds = COALESCE(lost_seconds, 0) + GREATEST(trained_seconds - %(trained_seconds)s::double precision, 0),
    trained_seconds = %(trained_seconds)s::double precision,
    metrics = CASE
        WHEN epoch >= %(first_epoch)s THEN (
            SELECT recorded.metrics
            FROM training_epochs AS recorded
            WHERE recorded.job_id = training_jobs.job_id
                AND recorded.epoch = %(first_epoch)s - 1
        )
        ELSE to_jsonb(metrics)
    END,
    -- include: names_no_object
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
    AND NOT (status = 'failed' AND COALESCE(attempt, 0) = %(attempt)s)
RETURNING job_id;

-- An attempt starts training: from now on, no older attempt can write. The row records no checkpoints until the attempt
-- ends, because the attempt replaces them. If epochs or batches are repeated, the row, including its durable state, is
-- reset to the attempt's starting point, and the time that was spent on them before counts as lost. Writes and returns
-- nothing if a failure of this attempt is already recorded, because its task or run was marked by hand: the recorded
-- reason is kept.
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
    preparation = NULL,
    error = NULL,
    completed_at = NULL,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND (attempt IS NULL OR attempt <= %(attempt)s)
    AND NOT (status = 'failed' AND COALESCE(attempt, 0) = %(attempt)s)
RETURNING job_id;

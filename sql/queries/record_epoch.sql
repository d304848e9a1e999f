-- Writes and returns nothing if the attempt no longer owns the job. If the run has claimed its job again and no new
-- attempt has started since, the attempt that is still training continues.
WITH owned AS (
    UPDATE training_jobs
    SET
        epoch = %(epoch)s,
        epoch_batch = 0,
        trained_seconds = %(trained_seconds)s,
        epochs = %(epochs)s,
        metrics = %(metrics)s::jsonb,
        updated_at = now()
    WHERE job_id = %(job_id)s
        AND run_id = %(run_id)s
        AND COALESCE(attempt, %(attempt)s) = %(attempt)s
    RETURNING
        job_id,
        stop_requested,
        stop_after_epoch
),
recorded AS (
    INSERT INTO training_epochs (job_id, epoch, metrics, fitness, seconds, eta_seconds)
    SELECT
        owned.job_id,
        %(epoch)s::integer,
        %(metrics)s::jsonb,
        %(fitness)s::double precision,
        %(seconds)s::double precision,
        %(eta_seconds)s::double precision
    FROM owned
    ON CONFLICT (job_id, epoch) DO UPDATE
    SET
        metrics = EXCLUDED.metrics,
        fitness = EXCLUDED.fitness,
        seconds = EXCLUDED.seconds,
        eta_seconds = EXCLUDED.eta_seconds,
        recorded_at = now()
)
SELECT
    COALESCE(stop_requested, FALSE) AS stop_requested,
    COALESCE(stop_after_epoch, FALSE) AS stop_after_epoch
FROM owned;

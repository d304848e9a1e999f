-- Writes nothing, and returns nothing, if the run does not own the job any more.
WITH owned AS (
    UPDATE training_jobs
    SET
        epoch = %(epoch)s,
        epochs = %(epochs)s,
        metrics = %(metrics)s::jsonb,
        updated_at = now()
    WHERE job_id = %(job_id)s
        AND run_id = %(run_id)s
    RETURNING job_id
)
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
RETURNING job_id;

-- Insert finished epochs that were not recorded because the database or the process was down.
INSERT INTO training_epochs (job_id, epoch, metrics, seconds)
SELECT
    %(job_id)s,
    finished.epoch,
    finished.metrics,
    finished.seconds
FROM unnest(
    %(epochs)s::integer[],
    %(metrics)s::jsonb[],
    %(seconds)s::double precision[]
) AS finished (epoch, metrics, seconds)
ON CONFLICT (job_id, epoch) DO NOTHING;

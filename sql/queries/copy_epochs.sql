INSERT INTO training_epochs (job_id, epoch, metrics, fitness, seconds, eta_seconds, recorded_at)
SELECT
    %(job_id)s,
    epoch,
    metrics,
    fitness,
    seconds,
    eta_seconds,
    recorded_at
FROM training_epochs
WHERE job_id = %(parent_job_id)s
    AND epoch <= %(last_epoch)s
ON CONFLICT (job_id, epoch) DO NOTHING;

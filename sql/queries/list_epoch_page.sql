SELECT
    epoch,
    metrics,
    fitness,
    seconds,
    eta_seconds,
    recorded_at
FROM training_epochs
WHERE job_id = %(job_id)s
    AND epoch > %(after)s
ORDER BY epoch
LIMIT %(limit)s;

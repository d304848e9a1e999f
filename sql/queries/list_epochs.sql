-- Those after one that is known, and those that were recorded again since then: a new attempt repeats epochs. A
-- moment or a limit that is NULL is none.
SELECT
    epoch,
    metrics,
    fitness,
    seconds,
    eta_seconds,
    recorded_at
FROM training_epochs
WHERE job_id = %(job_id)s
    AND (epoch > %(after)s OR recorded_at > %(since)s::timestamptz)
ORDER BY epoch
LIMIT %(limit)s;

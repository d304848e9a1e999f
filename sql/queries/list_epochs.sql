-- The epochs after a known one, and those recorded again since a given time, because a new attempt repeats epochs. A
-- time or a limit that is NULL does not apply.
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

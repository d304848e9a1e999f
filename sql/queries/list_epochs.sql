-- The epochs after a given one, and epochs that were recorded again after a given time, because a new attempt repeats
-- epochs. If the time or the limit is NULL, it does not apply.
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

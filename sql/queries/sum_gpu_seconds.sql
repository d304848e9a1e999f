-- The GPU seconds that a user's attempts have used since a given time.
SELECT
    COALESCE(
        sum(gpus * extract(epoch FROM seen_at - GREATEST(started_at, %(since)s::timestamptz))),
        0
    )::double precision AS seconds
FROM gpu_usage
WHERE seen_at > %(since)s
    AND triggered_by = %(triggered_by)s;

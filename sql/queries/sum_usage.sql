-- GPU seconds of each user in each week since a Monday. A week is written as 168 hours, because interval '1 week' may
-- have a different length if the session's time zone is not UTC.
SELECT
    triggered_by AS user_name,
    week,
    sum(
        gpus * extract(
            epoch FROM LEAST(seen_at, week + interval '168 hours') - GREATEST(started_at, week)
        )
    )::double precision AS gpu_seconds
FROM gpu_usage
CROSS JOIN LATERAL generate_series(
    GREATEST(date_trunc('week', started_at, 'UTC'), %(since)s::timestamptz),
    seen_at,
    interval '168 hours'
) AS week
WHERE seen_at >= %(since)s
    AND started_at < %(until)s
    AND week < %(until)s
GROUP BY
    triggered_by,
    week;

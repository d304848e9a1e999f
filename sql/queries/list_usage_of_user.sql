-- The jobs on which a user spent the most GPU seconds in a week; `status` is NULL for a job that has been deleted.
SELECT
    used.job_id,
    job.status::text AS status,
    used.gpu_seconds,
    used.attempts
FROM (
    SELECT
        job_id,
        sum(
            gpus * extract(
                epoch FROM LEAST(seen_at, %(until)s::timestamptz) - GREATEST(started_at, %(since)s::timestamptz)
            )
        )::double precision AS gpu_seconds,
        count(*)::integer AS attempts
    FROM gpu_usage
    WHERE seen_at >= %(since)s
        AND started_at < %(until)s
        AND triggered_by IS NOT DISTINCT FROM %(user)s
    GROUP BY job_id
    ORDER BY
        gpu_seconds DESC,
        job_id
    LIMIT %(limit)s
) AS used
LEFT JOIN training_jobs AS job
    ON job.job_id = used.job_id
ORDER BY
    used.gpu_seconds DESC,
    used.job_id;

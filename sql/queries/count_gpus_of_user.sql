-- The number of GPUs that a user's other jobs have or are about to get, the ids of these jobs, the number of jobs
-- that wait for the quota, and how many of those were queued before this job (0 if this job is not queued).
WITH active AS (
    -- include: active_jobs
    AND triggered_by = %(triggered_by)s
)
SELECT
    COALESCE(sum(gpus) FILTER (WHERE NOT waits), 0)::integer AS used,
    COALESCE(array_agg(job_id::text ORDER BY queued_at, job_id) FILTER (WHERE NOT waits), '{}') AS job_ids,
    count(*) FILTER (WHERE waits)::integer AS waiting,
    count(*) FILTER (
        WHERE waits
            AND (queued_at, job_id) < (
                SELECT
                    own.queued_at,
                    own.job_id
                FROM active AS own
                WHERE own.job_id = %(job_id)s
            )
    )::integer AS ahead
FROM active
WHERE job_id <> %(job_id)s;

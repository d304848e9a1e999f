-- The GPUs that a user's other jobs have or are about to get, their ids, and how many more wait for the quota.
WITH active AS (
    -- include: active_jobs_of_user
)
SELECT
    COALESCE(sum(gpus) FILTER (WHERE NOT waits), 0)::integer AS used,
    COALESCE(array_agg(job_id::text ORDER BY queued_at, job_id) FILTER (WHERE NOT waits), '{}') AS job_ids,
    count(*) FILTER (WHERE waits)::integer AS waiting
FROM active
WHERE job_id <> %(job_id)s;

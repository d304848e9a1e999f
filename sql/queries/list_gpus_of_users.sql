-- For each user, the number of GPUs of running jobs, of jobs that wait for a GPU, and of jobs that wait for the quota.
SELECT
    triggered_by AS user_name,
    COALESCE(sum(gpus) FILTER (WHERE status = 'running'), 0)::integer AS running,
    COALESCE(sum(gpus) FILTER (WHERE status = 'queued' AND NOT waits), 0)::integer AS queued,
    COALESCE(sum(gpus) FILTER (WHERE status = 'queued' AND waits), 0)::integer AS held
FROM (
    -- include: active_jobs
) AS active
GROUP BY triggered_by;

-- The GPUs of each user's jobs that are running, that wait for a GPU, and that wait for the quota.
SELECT
    triggered_by AS user_name,
    COALESCE(sum(gpus) FILTER (WHERE status = 'running'), 0)::integer AS running,
    COALESCE(sum(gpus) FILTER (WHERE status = 'queued' AND NOT waits), 0)::integer AS queued,
    COALESCE(sum(gpus) FILTER (WHERE status = 'queued' AND waits), 0)::integer AS held
FROM (
    SELECT
        triggered_by::text AS triggered_by,
        status::text AS status,
        COALESCE(waits_for_quota, FALSE) AS waits,
        -- include: gpus_of_job
        AS gpus
    FROM training_jobs
    WHERE status IN ('queued', 'running')
        AND run_id IS NOT NULL
        AND dag_id = 'train_yolo'
) AS active
GROUP BY triggered_by;

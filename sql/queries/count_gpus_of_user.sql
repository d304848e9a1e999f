-- The GPUs that a user's other jobs have or are about to get, their ids, and how many more wait for the quota.
SELECT
    COALESCE(sum(gpus) FILTER (WHERE NOT waits), 0)::integer AS used,
    COALESCE(array_agg(job_id ORDER BY queued_at, job_id) FILTER (WHERE NOT waits), '{}') AS job_ids,
    count(*) FILTER (WHERE waits)::integer AS waiting
FROM (
    SELECT
        job_id::text AS job_id,
        queued_at,
        COALESCE(waits_for_quota, FALSE) AS waits,
        -- include: gpus_of_job
        AS gpus
    FROM training_jobs
    WHERE status IN ('queued', 'running')
        AND run_id IS NOT NULL
        AND dag_id = 'train_yolo'
        AND triggered_by = %(triggered_by)s
        AND job_id <> %(job_id)s
) AS others;

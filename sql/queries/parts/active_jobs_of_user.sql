-- The user's jobs of Dag train_yolo that are queued or running, with the GPUs of each.
SELECT
    job_id,
    queued_at,
    COALESCE(waits_for_quota, FALSE) AS waits,
    -- include: gpus_of_job
    AS gpus
FROM training_jobs
WHERE status IN ('queued', 'running')
    AND run_id IS NOT NULL
    AND dag_id = 'train_yolo'
    AND triggered_by = %(triggered_by)s

-- The jobs of Dag train_yolo that are queued or running, with the number of GPUs of each.
SELECT
    job_id,
    triggered_by::text AS triggered_by,
    status::text AS status,
    queued_at,
    COALESCE(waits_for_quota, FALSE) AS waits,
    -- include: gpus_of_job
    AS gpus
FROM training_jobs
WHERE status IN ('queued', 'running')
    AND run_id IS NOT NULL
    AND dag_id = 'train_yolo'

-- A page of the jobs that a run of train_yolo has claimed and that are recorded as queued or running. The runs that a
-- host application records in its own rows may be those of another Airflow.
SELECT
    job_id::text AS job_id,
    status::text AS status,
    dag_id::text AS dag_id,
    run_id::text AS run_id,
    durable_epoch,
    durable_batch,
    updated_at::timestamptz AS updated_at
FROM training_jobs
WHERE job_id > %(after)s
    AND status::text IN ('queued', 'running')
    AND dag_id::text = 'train_yolo'
    AND run_id IS NOT NULL
    AND updated_at::timestamptz < %(before)s
ORDER BY job_id
LIMIT %(limit)s;

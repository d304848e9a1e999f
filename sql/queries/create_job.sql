INSERT INTO training_jobs (
    job_id,
    status,
    stop_requested,
    dag_id,
    run_id,
    parent_job_id,
    spec,
    epochs,
    triggered_by,
    created_at,
    started_at,
    updated_at
)
VALUES (
    %(job_id)s,
    'running',
    FALSE,
    %(dag_id)s,
    %(run_id)s,
    %(parent_job_id)s,
    %(spec)s,
    %(epochs)s,
    %(triggered_by)s,
    now(),
    now(),
    now()
);

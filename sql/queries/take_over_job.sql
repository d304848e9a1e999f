-- Compare-and-swap: no row is written if another run became the owner since the caller looked.
-- A run that claims its own job again keeps the progress that it recorded.
UPDATE training_jobs
SET
    status = 'running',
    stop_requested = FALSE,
    dag_id = %(dag_id)s,
    run_id = %(run_id)s,
    parent_job_id = %(parent_job_id)s,
    spec = %(spec)s,
    epoch = CASE WHEN run_id = %(run_id)s THEN epoch END,
    epochs = %(epochs)s,
    metrics = CASE WHEN run_id = %(run_id)s THEN metrics END,
    best_checkpoint_path = NULL,
    best_checkpoint_sha256 = NULL,
    best_checkpoint_size = NULL,
    last_checkpoint_path = NULL,
    last_checkpoint_sha256 = NULL,
    last_checkpoint_size = NULL,
    error = NULL,
    triggered_by = %(triggered_by)s,
    started_at = now(),
    completed_at = NULL,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id IS NOT DISTINCT FROM %(expected_run_id)s
RETURNING job_id;

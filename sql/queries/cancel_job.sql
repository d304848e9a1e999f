-- Stop a job that is waiting for its GPU: it has nothing to save. stop_requested remains set, so that an attempt that
-- gets its GPU at the same time does not start. (When a job stops while it trains, the request is cleared.)
UPDATE training_jobs
SET
    status = 'stopped',
    stop_requested = TRUE,
    stop_after_epoch = NULL,
    waited_seconds = COALESCE(waited_seconds, 0) + COALESCE(extract(epoch FROM now() - queued_at), 0),
    updated_at = now()
WHERE job_id = %(job_id)s
    AND status = 'queued'
    AND run_id IS NOT NULL
    AND dag_id = 'train_yolo'
RETURNING
    dag_id::text,
    run_id::text;

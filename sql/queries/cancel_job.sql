-- Stop a job that waits for its GPU: there is nothing to save. stop_requested stays, so that an attempt which got
-- its GPU at this very moment does not begin; a job that was stopped in training has none.
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

-- The run that owns the row trains from scratch: clear everything that an earlier training run recorded.
UPDATE training_jobs
SET
    origin_run_id = %(origin_run_id)s,
    epoch = NULL,
    epochs = %(epochs)s,
    metrics = NULL,
    durable_epoch = NULL,
    epoch_batch = NULL,
    epoch_batches = NULL,
    durable_batch = NULL,
    trained_seconds = NULL,
    lost_seconds = NULL,
    inexact_reason = NULL,
    waited_seconds = NULL,
    machine = NULL,
    gpu_name = NULL,
    gpu_driver = NULL,
    started_at = NULL
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s;

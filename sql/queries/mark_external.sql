-- Runs before record_checkpoints.sql if the checkpoints were not recorded by a task of train_yolo, but were just read.
UPDATE training_jobs
SET
    origin = 'external',
    checkpoint_uploader = %(uploader)s,
    checkpoint_finding = %(finding)s,
    last_checkpoint_expired_at = NULL
WHERE job_id = %(job_id)s;

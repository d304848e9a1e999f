-- Runs after record_checkpoints.sql if the checkpoints were not recorded by a task of train_yolo.
UPDATE training_jobs
SET
    origin = 'external',
    checkpoint_uploader = %(uploader)s,
    checkpoint_finding = %(finding)s
WHERE job_id = %(job_id)s;

-- After record_checkpoints.sql, where no task of train_yolo recorded them.
UPDATE training_jobs
SET
    origin = 'external',
    checkpoint_uploader = %(uploader)s,
    checkpoint_finding = %(finding)s
WHERE job_id = %(job_id)s;

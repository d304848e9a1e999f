-- The result of checking the job's dataset. A new run of the job records the result again.
UPDATE training_jobs
SET
    dataset_fingerprint = %(fingerprint)s,
    class_table = %(class_table)s,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s;

SELECT job_id::text
FROM training_jobs
WHERE job_id = %(job_id)s
FOR UPDATE;

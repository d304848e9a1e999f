SELECT job_id::text
FROM training_jobs
WHERE job_id = ANY(%(values)s::text[]);

-- Waits for transactions that are recording something which needs one of these jobs: see hold_job.sql. Only a statement
-- that follows this one sees what they have recorded. The locks are taken in sorted order, so that two sessions cannot
-- wait for one another.
SELECT job_id::text
FROM training_jobs
WHERE job_id = ANY(%(job_ids)s::text[])
ORDER BY job_id
FOR UPDATE;

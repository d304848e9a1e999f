-- This column is not in get_jobs.sql, because every list of jobs would then read tables of thousands of classes.
SELECT class_table
FROM training_jobs
WHERE job_id = %(job_id)s;

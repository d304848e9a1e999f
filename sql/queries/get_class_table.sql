-- Not among the columns of get_jobs.sql: a table of thousands of classes would be read with every list of jobs.
SELECT class_table
FROM training_jobs
WHERE job_id = %(job_id)s;

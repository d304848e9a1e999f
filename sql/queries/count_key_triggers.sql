-- One if the host application's rows get their job_id from the table's own key, otherwise zero.
SELECT count(*)
FROM pg_trigger
WHERE tgrelid = 'training_jobs'::regclass
    AND tgname = 'zz_training_schema_job_id';

-- 1 if the host application's rows get their job_id from the table's own key, otherwise 0.
SELECT count(*)
FROM pg_trigger
WHERE tgrelid = 'training_jobs'::regclass
    AND tgname = 'zz_training_schema_job_id';

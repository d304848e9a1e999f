-- One if rows of the platform get their job_id from the table's own key, else zero.
SELECT count(*)
FROM pg_trigger
WHERE tgrelid = 'training_jobs'::regclass
    AND tgname = 'zz_training_schema_job_id';

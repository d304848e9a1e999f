-- The newest jobs that were trained on a version.
SELECT
    job_id::text AS job_id,
    status::text AS status,
    created_at::timestamptz AS created_at,
    triggered_by::text AS triggered_by
FROM training_jobs
WHERE dataset_name = %(name)s
    AND dataset_version = %(version)s
ORDER BY
    COALESCE(created_at, '-infinity') DESC,
    job_id DESC
LIMIT %(limit)s;

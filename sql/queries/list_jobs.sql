-- The planner sees the values of the filters and drops the filters that match every job. For one of the remaining
-- filters, it uses an index that is sorted like the list.
SELECT
    job_id::text AS job_id,
    COALESCE(created_at, '-infinity')::text AS created_at
FROM training_jobs
WHERE -- include: matching_jobs
    AND -- include: jobs_after_page
ORDER BY
    COALESCE(created_at, '-infinity') DESC,
    job_id DESC
LIMIT %(limit)s;

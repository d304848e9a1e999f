-- The page of list_jobs.sql where a planner that takes matches to be everywhere would look for them in vain: they
-- are found first, in any order, and sorted then. OFFSET keeps the two apart. Only what is left is made text.
SELECT
    page.job_id::text AS job_id,
    page.created_at::text AS created_at
FROM (
    SELECT
        matching.created_at,
        matching.job_id
    FROM (
        SELECT
            COALESCE(created_at, '-infinity') AS created_at,
            job_id
        FROM training_jobs
        WHERE -- include: matching_jobs
            AND -- include: jobs_after_page
        OFFSET 0
    ) AS matching
    ORDER BY
        matching.created_at DESC,
        matching.job_id DESC
    LIMIT %(limit)s
) AS page
ORDER BY
    page.created_at DESC,
    page.job_id DESC;

-- The same page as list_jobs.sql, for filters with few matches: the planner assumes that matches are spread evenly, and
-- would scan many rows for them. Here the matches are found first, in any order, and then sorted; OFFSET keeps the
-- planner from merging the two steps. Only the rows of the page are converted to text.
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

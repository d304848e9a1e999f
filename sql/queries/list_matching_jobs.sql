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
        WHERE job_id IS NOT NULL
            AND (%(any_status)s::boolean OR status = %(status)s)
            AND (%(dataset)s::text IS NULL OR left(spec ->> 'dataset', 250) = %(dataset)s)
            AND (%(model)s::text IS NULL OR left(spec ->> 'model', 250) = %(model)s)
            AND (%(pattern)s::text IS NULL OR job_id LIKE %(pattern)s)
            AND (%(dag_id)s::text IS NULL OR dag_id = %(dag_id)s)
            AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
            AND (%(archived)s::boolean IS NULL OR (archived_at IS NOT NULL) = %(archived)s::boolean)
            AND (
                %(first_page)s::boolean
                OR (COALESCE(created_at, '-infinity'), job_id) < (%(before_created_at)s, %(before_job_id)s)
            )
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

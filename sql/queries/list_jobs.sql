-- A filter that is NULL holds for every job: the planner sees the values, leaves those conditions out, and reads
-- the index of one that is left in the order of the list. A status has the type of the column, which may be a
-- platform's enum, and so does the moment of creation at which the page before ended.
SELECT
    job_id::text AS job_id,
    COALESCE(created_at, '-infinity')::text AS created_at
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
ORDER BY
    COALESCE(created_at, '-infinity') DESC,
    job_id DESC
LIMIT %(limit)s;

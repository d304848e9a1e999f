-- The page of list_jobs.sql where a planner that takes matches to be everywhere would look for them in vain: they
-- are found first, in any order, and sorted then. OFFSET keeps the two apart.
WITH page AS (
    SELECT
        created_at,
        job_id
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
            AND (
                %(first_page)s::boolean
                OR (COALESCE(created_at, '-infinity'), job_id) < (%(before_created_at)s, %(before_job_id)s)
            )
        OFFSET 0
    ) AS matching
    ORDER BY
        created_at DESC,
        job_id DESC
    LIMIT %(limit)s
)
SELECT
    job_id::text AS job_id,
    status::text AS status,
    COALESCE(stop_requested, FALSE) AS stop_requested,
    dag_id::text AS dag_id,
    run_id::text AS run_id,
    COALESCE(origin_run_id, run_id)::text AS origin_run_id,
    attempt,
    parent_job_id::text AS parent_job_id,
    resumed_epoch,
    spec,
    epoch,
    durable_epoch,
    epochs,
    metrics,
    best_checkpoint_path::text AS best_checkpoint_path,
    best_checkpoint_sha256::text AS best_checkpoint_sha256,
    best_checkpoint_size,
    last_checkpoint_path::text AS last_checkpoint_path,
    last_checkpoint_sha256::text AS last_checkpoint_sha256,
    last_checkpoint_size,
    last_checkpoint_expired_at::timestamptz AS last_checkpoint_expired_at,
    COALESCE(pinned, FALSE) AS pinned,
    inexact_reason::text AS inexact_reason,
    error::text AS error,
    triggered_by::text AS triggered_by,
    created_at::timestamptz AS created_at,
    started_at::timestamptz AS started_at,
    completed_at::timestamptz AS completed_at,
    updated_at::timestamptz AS updated_at,
    COALESCE(created_at, '-infinity')::text AS place
FROM training_jobs
WHERE job_id IN (SELECT page.job_id FROM page)
ORDER BY
    COALESCE(created_at, '-infinity') DESC,
    job_id DESC;

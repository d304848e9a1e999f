-- The job, its ancestors (which it resumed, or from whose weights it started) and its descendants. If there are too
-- many, ancestors are preferred to descendants, and near relatives to distant ones.
-- UNION drops rows seen before, so the recursion ends even if a host application's table contains a cycle.
WITH RECURSIVE ancestors AS (
    SELECT
        job_id::text AS job_id,
        parent_job_id::text AS parent_job_id
    FROM training_jobs
    WHERE job_id = %(job_id)s
    UNION
    SELECT
        parent.job_id::text,
        parent.parent_job_id::text
    FROM ancestors
    JOIN training_jobs AS parent
        ON parent.job_id = ancestors.parent_job_id
),
descendants AS (
    SELECT job_id::text AS job_id
    FROM training_jobs
    WHERE parent_job_id = %(job_id)s
    UNION
    SELECT child.job_id::text
    FROM descendants
    JOIN training_jobs AS child
        ON child.parent_job_id = descendants.job_id
),
related AS (
    SELECT
        either.job_id,
        row_number() OVER () AS position
    FROM (
        SELECT job_id
        FROM ancestors
        UNION ALL
        SELECT job_id
        FROM descendants
    ) AS either
    LIMIT %(limit)s + 1
)
SELECT
    job_id::text AS job_id,
    parent_job_id::text AS parent_job_id,
    resumed_epoch,
    parent_job_id IS NOT NULL AND resumed_epoch IS NULL AND initial_weights_sha256 IS NOT NULL AS fine_tuned,
    status::text AS status,
    epoch,
    epochs,
    spec,
    metrics,
    created_at::timestamptz AS created_at,
    (SELECT count(*) > %(limit)s FROM related) AS truncated
FROM training_jobs
WHERE job_id IN (SELECT related.job_id FROM related WHERE position <= %(limit)s)
ORDER BY
    COALESCE(created_at, '-infinity'),
    job_id;

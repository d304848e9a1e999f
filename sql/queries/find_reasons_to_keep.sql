-- The jobs and model versions that still need a job's objects, at most three of each kind, and whether the table of
-- jobs is our own: only then may the row be deleted.
SELECT
    ARRAY(
        SELECT child.job_id::text
        FROM training_jobs AS child
        WHERE child.parent_job_id = %(job_id)s
            AND child.status::text IN ('queued', 'running')
        ORDER BY child.job_id
        LIMIT 3
    ) AS children,
    ARRAY(
        SELECT model_versions.name || '@' || model_versions.version
        FROM model_versions
        WHERE model_versions.job_id = %(job_id)s
            AND (model_versions.stage <> 'rejected' OR model_versions.promoted_at IS NOT NULL)
        ORDER BY model_versions.version
        LIMIT 3
    ) AS versions,
    EXISTS (
        SELECT
        FROM training_schema_created
        WHERE kind = 'table'
            AND name = 'training_jobs'
    ) AS is_own_table;

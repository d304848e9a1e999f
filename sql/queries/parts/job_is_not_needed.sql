-- The job is not pinned, no job that continues it is queued or running, and no model version comes from it, except one
-- that was rejected and has never been in production.
job.pinned IS NOT TRUE
AND NOT EXISTS (
    SELECT
    FROM training_jobs AS child
    WHERE child.parent_job_id = job.job_id
        AND child.status::text IN ('queued', 'running')
)
AND NOT EXISTS (
    SELECT
    FROM model_versions
    WHERE model_versions.job_id = job.job_id
        AND (model_versions.stage <> 'rejected' OR model_versions.promoted_at IS NOT NULL)
)

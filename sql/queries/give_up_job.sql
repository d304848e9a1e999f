-- The first step of a deletion: a row never names what is not there. Whatever keeps a job keeps it here again, and so
-- does a row that is another by now.
UPDATE training_jobs AS job
SET
    best_checkpoint_path = NULL,
    best_checkpoint_sha256 = NULL,
    best_checkpoint_size = NULL,
    last_checkpoint_path = NULL,
    last_checkpoint_sha256 = NULL,
    last_checkpoint_size = NULL,
    last_checkpoint_expired_at = COALESCE(job.last_checkpoint_expired_at, now()),
    updated_at = now()
WHERE job.job_id = %(job_id)s
    AND job.run_id = %(run_id)s
    AND job.status::text IN ('completed', 'failed', 'stopped')
    AND job.pinned IS NOT TRUE
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
RETURNING job.job_id::text;

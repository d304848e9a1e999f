-- Of the given jobs, those whose states expire: chosen now, or marked by an earlier run that could not delete them
-- all. A job that has been trained again since it was marked no longer counts as marked.
SELECT
    job.job_id::text AS job_id,
    job.dag_id::text AS dag_id,
    job.run_id::text AS run_id,
    job.last_checkpoint_expired_at IS NOT NULL AS marked
FROM training_jobs AS job
WHERE job.job_id = ANY(%(job_ids)s::text[])
    AND (
        (job.job_id = ANY(%(chosen)s::text[]) AND job.last_checkpoint_expired_at IS NULL)
        OR (
            job.last_checkpoint_expired_at IS NOT NULL
            AND job.last_checkpoint_path IS NULL
            AND job.status::text IN ('completed', 'failed', 'stopped')
        )
    );

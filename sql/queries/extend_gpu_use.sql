-- A heartbeat of the attempt that owns the job: it still has its GPUs. The GPU use of a killed attempt counts
-- up to its last heartbeat.
UPDATE gpu_usage
SET seen_at = now()
FROM training_jobs AS job
WHERE job.job_id = %(job_id)s
    AND job.run_id = %(run_id)s
    AND COALESCE(job.attempt, %(attempt)s) = %(attempt)s
    AND gpu_usage.job_id = %(job_id)s
    AND gpu_usage.started_at = (
        SELECT max(newest.started_at)
        FROM gpu_usage AS newest
        WHERE newest.job_id = %(job_id)s
    );

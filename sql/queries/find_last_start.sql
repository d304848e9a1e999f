-- When a run last took its place in the queue for the job, and when an attempt at the job last got its GPUs, whichever
-- was later. Neither queued_at nor started_at changes if a run continues the job that was triggered long before.
SELECT
    GREATEST(
        job.queued_at::timestamptz,
        (
            SELECT max(attempt.started_at)
            FROM gpu_usage AS attempt
            WHERE attempt.job_id = %(job_id)s
        )
    ) AS started_at
FROM training_jobs AS job
WHERE job.job_id = %(job_id)s;

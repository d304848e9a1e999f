-- A job that was just claimed waits if its user's other jobs leave too few GPUs, or if an older job of the user waits.
-- The caller holds the lock of the user's quota, so that two concurrent claims cannot both take the last GPU.
WITH active AS (
    -- include: active_jobs
    AND triggered_by = %(triggered_by)s
)
UPDATE training_jobs AS job
SET waits_for_quota = TRUE
FROM active AS own
WHERE job.job_id = %(job_id)s
    AND own.job_id = job.job_id
    AND (
        own.gpus + (
            SELECT COALESCE(sum(other.gpus), 0)
            FROM active AS other
            WHERE other.job_id <> own.job_id
                AND NOT other.waits
        ) > %(gpu_limit)s
        OR EXISTS (
            SELECT
            FROM active AS older
            WHERE older.waits
                AND (older.queued_at, older.job_id) < (own.queued_at, own.job_id)
        )
    );

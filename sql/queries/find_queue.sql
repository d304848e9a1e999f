-- All jobs of train_yolo that have a GPU or wait for one (but not for their user's quota), in queue order.
-- epoch_seconds is the time per epoch, with overhead but without waits, in the newest jobs with the same dataset, model
-- and imgsz; it is computed once for all active jobs that have these in common. The remaining time of a running job
-- counts from the start of its newest attempt, or from the end of its last epoch if that is later.
WITH active AS (
    SELECT
        job_id::text AS job_id,
        status::text AS status,
        queued_at::timestamptz AS queued_at,
        started_at::timestamptz AS started_at,
        (
            SELECT max(used.started_at)
            FROM gpu_usage AS used
            WHERE used.job_id = training_jobs.job_id
                AND used.started_at >= training_jobs.started_at - interval '1 second'
        ) AS attempt_started_at,
        spec ->> 'device' AS device,
        epochs,
        COALESCE(epoch, resumed_epoch, -1) + 1 AS finished_epochs,
        COALESCE(spec ->> 'dataset', '') AS dataset,
        COALESCE(spec ->> 'model', '') AS model,
        COALESCE(spec ->> 'imgsz', '') AS imgsz
    FROM training_jobs
    WHERE status IN ('queued', 'running')
        AND run_id IS NOT NULL
        AND dag_id = 'train_yolo'
        AND waits_for_quota IS NOT TRUE
),
kinds AS (
    SELECT DISTINCT
        dataset,
        model,
        imgsz
    FROM active
),
rates AS (
    SELECT
        kinds.*,
        (
            SELECT avg(alike.seconds)
            FROM (
                SELECT
                    COALESCE(used.seconds, extract(epoch FROM job.completed_at - job.started_at))::double precision
                    / (job.epoch - COALESCE(job.resumed_epoch, -1)) AS seconds
                FROM training_jobs AS job
                CROSS JOIN LATERAL (
                    SELECT
                        -- include: gpu_time_of_job
                        AS seconds
                ) AS used
                WHERE left(job.spec ->> 'dataset', 250) = left(kinds.dataset, 250)
                    AND left(job.spec ->> 'model', 250) = left(kinds.model, 250)
                    AND COALESCE(job.spec ->> 'imgsz', '') = kinds.imgsz
                    AND job.status = 'completed'
                    AND isfinite(job.completed_at)
                    AND isfinite(job.started_at)
                    AND job.completed_at > job.started_at
                    AND job.epoch > COALESCE(job.resumed_epoch, -1)
                ORDER BY
                    COALESCE(job.created_at, '-infinity') DESC,
                    job.job_id DESC
                LIMIT 5
            ) AS alike
        ) AS epoch_seconds
    FROM kinds
)
SELECT
    active.job_id,
    active.status,
    active.queued_at,
    COALESCE(active.attempt_started_at, active.started_at) AS started_at,
    active.device,
    active.epochs,
    active.finished_epochs,
    rates.epoch_seconds,
    latest.recorded_at,
    latest.eta_seconds
FROM active
JOIN rates
    USING (dataset, model, imgsz)
LEFT JOIN LATERAL (
    SELECT
        GREATEST(training_epochs.recorded_at, active.attempt_started_at) AS recorded_at,
        training_epochs.eta_seconds
    FROM training_epochs
    WHERE training_epochs.job_id = active.job_id
        AND active.status = 'running'
        -- Skips epochs that were copied from a parent.
        AND training_epochs.recorded_at >= active.started_at
    ORDER BY training_epochs.epoch DESC
    LIMIT 1
) AS latest
    ON TRUE
ORDER BY
    active.queued_at NULLS FIRST,
    active.job_id;

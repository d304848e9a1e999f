-- For each job: its last epoch, how long its attempts have had their GPUs, the fitness of evenly spaced epochs from
-- first to last, and its newest children. All of these are looked up by key, so a job of a thousand epochs costs no
-- more than one of thirty.
SELECT
    requested.job_id,
    latest.seconds,
    -- An attempt that started after the last epoch still has all remaining epochs ahead of it. Epochs that were copied
    -- from a parent predict nothing.
    CASE
        WHEN latest.recorded_at < job.started_at::timestamptz THEN NULL
        ELSE latest.eta_seconds + COALESCE(
            (
                SELECT GREATEST(extract(epoch FROM max(used.started_at) - latest.recorded_at), 0)::double precision
                FROM gpu_usage AS used
                WHERE used.job_id = requested.job_id
            ),
            0
        )
    END AS eta_seconds,
    latest.recorded_at,
    -- include: gpu_time_of_job
    AS gpu_seconds,
    ARRAY(
        SELECT (
            SELECT recorded.fitness
            FROM training_epochs AS recorded
            WHERE recorded.job_id = requested.job_id
                AND recorded.epoch = chosen.epoch
        )
        FROM (
            SELECT DISTINCT (point::bigint * latest.epoch / (%(points)s::integer - 1))::integer AS epoch
            FROM generate_series(0, %(points)s::integer - 1) AS point
            WHERE latest.epoch IS NOT NULL
        ) AS chosen
        ORDER BY chosen.epoch
    ) AS curve,
    ARRAY(
        SELECT child.job_id::text
        FROM training_jobs AS child
        WHERE child.parent_job_id = requested.job_id
        ORDER BY
            COALESCE(child.created_at, '-infinity') DESC,
            child.job_id DESC
        LIMIT %(children)s
    ) AS children
FROM unnest(%(job_ids)s::text[]) AS requested (job_id)
LEFT JOIN training_jobs AS job
    ON job.job_id = requested.job_id
LEFT JOIN LATERAL (
    SELECT
        epoch,
        seconds,
        eta_seconds,
        recorded_at
    FROM training_epochs
    WHERE training_epochs.job_id = requested.job_id
    ORDER BY epoch DESC
    LIMIT 1
) AS latest
    ON TRUE;

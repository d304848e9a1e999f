-- Polls all jobs that clients watch. Every write changes a row's xmin, even one by a host application that does not
-- maintain updated_at.
SELECT
    job.job_id::text AS job_id,
    job.xmin::text AS version,
    job.status::text = 'queued' AS is_queued,
    latest.epoch,
    latest.recorded_at
FROM training_jobs AS job
LEFT JOIN LATERAL (
    SELECT
        epochs.epoch,
        epochs.recorded_at
    FROM training_epochs AS epochs
    WHERE epochs.job_id = job.job_id
    ORDER BY epochs.epoch DESC
    LIMIT 1
) AS latest ON TRUE
WHERE job.job_id = ANY(%(job_ids)s::text[]);

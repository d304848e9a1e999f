-- One look at all jobs that somebody watches. Every write to a row gives it another xmin, also the write of a
-- platform that knows nothing of updated_at.
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

-- Compare-and-swap: no row is written if another run became the owner since the caller looked. What was
-- trained so far stays; start_over.sql follows where the row says that this run begins from the start.
WITH before AS (
    SELECT
        job_id,
        (origin_run_id IS NULL AND run_id IS NULL)
        OR (%(fresh)s AND (%(recreated)s OR run_id IS DISTINCT FROM %(run_id)s)) AS begins
    FROM training_jobs
    WHERE job_id = %(job_id)s
        AND run_id IS NOT DISTINCT FROM %(expected_run_id)s
    FOR UPDATE
)
UPDATE training_jobs AS job
SET
    status = 'running',
    -- A request to stop holds for whoever waits or runs, and not for a run that comes after it.
    stop_requested = COALESCE(
        job.stop_requested
        AND (job.status = 'queued' OR (job.status = 'running' AND job.run_id = %(run_id)s)),
        FALSE
    ),
    stop_after_epoch = CASE
        WHEN job.status = 'queued' OR (job.status = 'running' AND job.run_id = %(run_id)s) THEN job.stop_after_epoch
    END,
    dag_id = %(dag_id)s,
    run_id = %(run_id)s,
    -- A row from before revision 0003 was trained by one run alone.
    origin_run_id = COALESCE(job.origin_run_id, job.run_id),
    -- Attempts are numbered within a run, and a run that was deleted and made again begins at 1.
    attempt = NULL,
    parent_job_id = %(parent_job_id)s,
    resumed_epoch = %(resumed_epoch)s,
    initial_weights_path = %(initial_weights_path)s,
    initial_weights_sha256 = %(initial_weights_sha256)s,
    spec = %(spec)s,
    epochs = COALESCE(%(epochs)s, job.epochs),
    best_checkpoint_path = NULL,
    best_checkpoint_sha256 = NULL,
    best_checkpoint_size = NULL,
    last_checkpoint_path = NULL,
    last_checkpoint_sha256 = NULL,
    last_checkpoint_size = NULL,
    last_checkpoint_expired_at = NULL,
    origin = CASE WHEN job.origin::text = 'external' THEN NULL ELSE job.origin END,
    checkpoint_uploader = NULL,
    checkpoint_finding = NULL,
    error = NULL,
    triggered_by = %(triggered_by)s,
    started_at = COALESCE(job.started_at, now()),
    completed_at = NULL,
    updated_at = now()
FROM before
WHERE job.job_id = before.job_id
RETURNING before.begins;

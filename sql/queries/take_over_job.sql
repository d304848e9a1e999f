-- Compare-and-swap: writes no row if another run has become the owner since the caller read the row, if the state to
-- continue from has been given up since then, or if the job was cancelled while this run waited. The job waits for a GPU
-- from now on. Earlier progress is kept; start_over.sql follows if this run trains from scratch.
WITH before AS (
    SELECT
        job_id,
        (origin_run_id IS NULL AND run_id IS NULL)
        OR (%(fresh)s AND (%(recreated)s OR run_id IS DISTINCT FROM %(run_id)s)) AS begins,
        status IN ('queued', 'running')
        AND COALESCE(run_id = %(run_id)s, status = 'queued') AS same_wish
    FROM training_jobs
    WHERE job_id = %(job_id)s
        AND run_id IS NOT DISTINCT FROM %(expected_run_id)s
        AND (%(fresh)s OR last_checkpoint_expired_at IS NULL)
        -- A run that was waiting when its job was cancelled may not have noticed, and must not take the job back unless
        -- the run has been cleared since then.
        AND NOT (
            status = 'stopped'
            AND COALESCE(stop_requested, FALSE)
            AND COALESCE(run_id = %(run_id)s, FALSE)
            AND COALESCE(updated_at >= %(run_started_at)s::timestamptz, TRUE)
        )
    FOR UPDATE
)
UPDATE training_jobs AS job
SET
    status = 'queued',
    queued_at = CASE
        WHEN job.status = 'queued' AND job.run_id = %(run_id)s THEN COALESCE(job.queued_at, now())
        ELSE COALESCE(%(queued_at)s::timestamptz, now())
    END,
    -- A request to stop applies to the run that owns the job or, if there is none yet, to its first run. If a run died
    -- while waiting, a request to stop it is dropped.
    stop_requested = COALESCE(job.stop_requested AND before.same_wish, FALSE),
    stop_after_epoch = CASE WHEN before.same_wish THEN job.stop_after_epoch END,
    waits_for_quota = NULL,
    dag_id = %(dag_id)s,
    run_id = %(run_id)s,
    -- A job whose row is from before revision 0003 was trained by a single run.
    origin_run_id = COALESCE(job.origin_run_id, job.run_id),
    -- Attempts are numbered within a run, and a run that was deleted and created again starts at 1.
    attempt = NULL,
    parent_job_id = %(parent_job_id)s,
    resumed_epoch = %(resumed_epoch)s,
    initial_weights_path = %(initial_weights_path)s,
    initial_weights_sha256 = %(initial_weights_sha256)s,
    spec = %(spec)s,
    dataset_name = %(dataset_name)s,
    dataset_version = %(dataset_version)s,
    -- A training run that continues keeps its recorded dataset until the check records it again.
    dataset_fingerprint = CASE WHEN NOT before.begins THEN job.dataset_fingerprint END,
    class_table = CASE WHEN NOT before.begins THEN job.class_table END,
    epochs = COALESCE(%(epochs)s, job.epochs),
    -- include: names_no_object
    last_checkpoint_expired_at = NULL,
    origin = CASE WHEN job.origin::text = 'external' THEN NULL ELSE job.origin END,
    checkpoint_uploader = NULL,
    checkpoint_finding = NULL,
    preparation = NULL,
    error = NULL,
    triggered_by = %(triggered_by)s,
    archived_at = NULL,
    completed_at = NULL,
    updated_at = now()
FROM before
WHERE job.job_id = before.job_id
RETURNING before.begins;

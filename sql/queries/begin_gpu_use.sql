-- Record that an attempt has its GPUs from now on. The row outlives its job: deleting a job does not give its GPU hours
-- back.
INSERT INTO gpu_usage (job_id, triggered_by, started_at, seen_at, gpus)
SELECT
    job_id::text,
    triggered_by::text,
    now(),
    now(),
    -- include: gpus_of_job
FROM training_jobs
WHERE job_id = %(job_id)s;

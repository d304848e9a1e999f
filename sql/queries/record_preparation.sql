-- The progress of preparing a job's data, for people who wait for it; NULL once the data are ready.
UPDATE training_jobs
SET
    preparation = %(text)s::text,
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND preparation IS DISTINCT FROM %(text)s::text;

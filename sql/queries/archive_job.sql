-- A job that has not ended is not archived: lists would not show that it runs.
UPDATE training_jobs
SET archived_at = CASE WHEN %(archived)s THEN COALESCE(archived_at, now()) END
WHERE job_id = %(job_id)s
    AND (NOT %(archived)s OR status::text NOT IN ('queued', 'running'))
RETURNING job_id;

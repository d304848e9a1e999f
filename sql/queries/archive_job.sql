-- Only a job that has ended can be archived, because lists would hide an archived job that is still running.
UPDATE training_jobs
SET archived_at = CASE WHEN %(archived)s THEN COALESCE(archived_at, now()) END
WHERE job_id = %(job_id)s
    AND (NOT %(archived)s OR COALESCE(status::text, '') NOT IN ('queued', 'running'));

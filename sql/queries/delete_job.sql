-- The last step of a deletion. Writes nothing if the job was started again after give_up_job.sql ran.
DELETE FROM training_jobs
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND status::text IN ('completed', 'failed', 'stopped')
    AND last_checkpoint_expired_at IS NOT NULL;

-- The seconds for which the attempts of `job` have held their GPUs since the job last started from scratch. NULL if the
-- first attempt is not in gpu_usage (it began before revision 0013, or a host application trains the job), or if the
-- sum is 0. The tolerance of a second is for an adopted table, whose started_at may be rounded to seconds.
(
    SELECT NULLIF(sum(extract(epoch FROM used.seen_at - used.started_at)), 0)::double precision
    FROM gpu_usage AS used
    WHERE used.job_id = job.job_id
        AND used.started_at >= job.started_at - interval '1 second'
    HAVING min(used.started_at) <= job.started_at + interval '1 second'
)

-- The seconds that the attempts of `job` have had their GPUs, since it last started from scratch. NULL if its first
-- attempt is not in gpu_usage (it began before revision 0013, or a platform trains it), or if all was given back. The
-- column of an adopted table may be rounded to seconds.
(
    SELECT NULLIF(sum(extract(epoch FROM used.seen_at - used.started_at)), 0)::double precision
    FROM gpu_usage AS used
    WHERE used.job_id = job.job_id
        AND used.started_at >= job.started_at - interval '1 second'
    HAVING min(used.started_at) <= job.started_at + interval '1 second'
)

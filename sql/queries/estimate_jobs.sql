-- The planner's estimate of how many rows list_jobs.sql matches; reads no rows.
EXPLAIN (FORMAT JSON)
SELECT
FROM training_jobs
WHERE -- include: matching_jobs
;

-- The planner's estimate of the number of matches of list_jobs.sql; reads no rows.
EXPLAIN (FORMAT JSON)
SELECT
FROM training_jobs
WHERE -- include: matching_jobs
;

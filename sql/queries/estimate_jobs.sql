-- How many matches of list_jobs.sql the planner expects: nothing is read.
EXPLAIN (FORMAT JSON)
SELECT
FROM training_jobs
WHERE -- include: matching_jobs
;

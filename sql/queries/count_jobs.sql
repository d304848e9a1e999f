-- Counts the matches of list_jobs.sql, and no further than asked for.
SELECT count(*)
FROM (
    SELECT
    FROM training_jobs
    WHERE -- include: matching_jobs
    LIMIT %(limit)s
) AS matching;

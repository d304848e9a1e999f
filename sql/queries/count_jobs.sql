-- Counts the matches of list_jobs.sql, up to a limit.
SELECT count(*)
FROM (
    SELECT
    FROM training_jobs
    WHERE -- include: matching_jobs
    LIMIT %(limit)s
) AS matching;

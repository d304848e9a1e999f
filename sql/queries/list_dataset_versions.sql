-- The versions of a dataset, the newest first; a page starts after the last version of the previous page.
SELECT
    -- include: dataset_summary
FROM datasets
WHERE name = %(name)s
    AND (%(before)s::integer IS NULL OR version < %(before)s::integer)
ORDER BY version DESC
LIMIT %(limit)s;

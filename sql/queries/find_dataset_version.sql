-- The given version or, if none is given, the newest version that is not archived.
SELECT
    class_table,
    warnings,
    -- include: dataset_summary
FROM datasets
WHERE name = %(name)s
    AND CASE
        WHEN %(version)s::integer IS NULL THEN archived_at IS NULL
        ELSE version = %(version)s::integer
    END
ORDER BY version DESC
LIMIT 1;

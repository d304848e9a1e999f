-- The newest version of a dataset whose data can change, because they are not an upload. An archived version is returned
-- only if there is no other.
SELECT
    class_table,
    warnings,
    -- include: dataset_summary
FROM datasets
WHERE name = %(name)s
    AND NOT starts_with(COALESCE(origin, source), %(uploads)s)
ORDER BY
    archived_at IS NOT NULL,
    version DESC
LIMIT 1;

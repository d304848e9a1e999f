SELECT
    class_table,
    warnings,
    -- include: dataset_summary
FROM datasets
WHERE run_id = %(run_id)s
    AND name = %(name)s
ORDER BY version DESC
LIMIT 1;

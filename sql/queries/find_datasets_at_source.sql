-- For each dataset, the newest version (archived or not) whose data are at the address, or were converted from data
-- at that address.
SELECT DISTINCT ON (name)
    class_table,
    warnings,
    -- include: dataset_summary
FROM datasets
WHERE rtrim(COALESCE(origin, source), '/') = %(source)s
    AND COALESCE(name = %(name)s, TRUE)
ORDER BY
    name,
    version DESC;

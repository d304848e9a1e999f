-- Of each dataset the newest version that is not archived, if its data are, or were converted from what is, at that
-- address.
SELECT *
FROM (
    SELECT DISTINCT ON (name)
        class_table,
        warnings,
        -- include: dataset_summary
    FROM datasets
    WHERE archived_at IS NULL
    ORDER BY
        name,
        version DESC
) AS newest
WHERE rtrim(COALESCE(origin, source), '/') = %(source)s;

-- For each dataset, the version that its name refers to: the newest that is not archived, or else the newest of all.
-- Datasets that got a version most recently come first; a page starts after the last dataset of the previous page.
WITH listed AS (
    SELECT
        name AS dataset,
        count(*) AS versions,
        max(created_at) AS changed_at,
        bool_and(archived_at IS NOT NULL) AS all_archived
    FROM datasets
    WHERE %(pattern)s::text IS NULL
        OR name LIKE %(pattern)s
    GROUP BY name
)
SELECT
    listed.versions,
    listed.changed_at::text AS changed_at,
    newest.*
FROM listed
CROSS JOIN LATERAL (
    SELECT
        -- include: dataset_summary
    FROM datasets
    WHERE name = listed.dataset
    ORDER BY
        archived_at IS NOT NULL,
        version DESC
    LIMIT 1
) AS newest
WHERE (%(archived)s::boolean IS NULL OR listed.all_archived = %(archived)s::boolean)
    AND (
        %(before_changed_at)s::text IS NULL
        OR (listed.changed_at, listed.dataset) < (%(before_changed_at)s::timestamptz, %(before_name)s)
    )
ORDER BY
    listed.changed_at DESC,
    listed.dataset DESC
LIMIT %(limit)s;

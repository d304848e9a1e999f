-- Whether anything else uses the objects of a version that has been deleted: its converted copy (`copied`), the objects
-- derived from its content for its task (`derived`), and its upload (`upload`). The parameters for the copy are NULL if
-- the data were not converted; the one for the upload is NULL if they were not uploaded. A recorded address of a prefix
-- may lack the final slash, so a slash is added for the comparison.
SELECT
    EXISTS (
        SELECT
        FROM datasets
        WHERE fingerprint IN (%(fingerprint)s, %(copy)s)
            OR starts_with(source || '/', %(copy_uri)s::text)
            OR starts_with(origin || '/', %(copy_uri)s::text)
    )
    OR EXISTS (
        SELECT
        FROM training_jobs
        WHERE dataset_fingerprint IN (%(fingerprint)s, %(copy)s)
            OR starts_with((to_jsonb(spec) ->> 'dataset') || '/', %(copy_uri)s::text)
            -- The fingerprint is missing during the check of a dataset, or if an earlier release recorded the job.
            OR (
                dataset_fingerprint IS NULL
                AND (
                    to_jsonb(spec) ->> 'dataset' = %(origin)s::text
                    OR (
                        status IN ('queued', 'running')
                        AND starts_with(to_jsonb(spec) ->> 'dataset', 's3://')
                    )
                )
            )
    ) AS copied,
    EXISTS (
        SELECT
        FROM datasets
        WHERE fingerprint = %(fingerprint)s
            AND task = %(task)s
    ) AS derived,
    EXISTS (
        SELECT
        FROM datasets
        WHERE starts_with(source || '/', %(upload)s::text)
            OR starts_with(origin || '/', %(upload)s::text)
    )
    OR EXISTS (
        SELECT
        FROM training_jobs
        WHERE starts_with((to_jsonb(spec) ->> 'dataset') || '/', %(upload)s::text)
    ) AS upload;

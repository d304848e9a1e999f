-- Whether anything else uses the objects of a version that has been deleted: its content, what was derived from its
-- content for its task, and the upload that it came from (NULL if it was not uploaded).
SELECT
    EXISTS (
        SELECT
        FROM datasets
        WHERE fingerprint = %(fingerprint)s
    )
    OR EXISTS (
        SELECT
        FROM training_jobs
        WHERE dataset_fingerprint = %(fingerprint)s
    ) AS content,
    EXISTS (
        SELECT
        FROM datasets
        WHERE fingerprint = %(fingerprint)s
            AND task = %(task)s
    ) AS derived,
    EXISTS (
        SELECT
        FROM datasets
        WHERE starts_with(source, %(upload)s::text)
            OR starts_with(origin, %(upload)s::text)
    )
    OR EXISTS (
        SELECT
        FROM training_jobs
        WHERE starts_with(to_jsonb(spec) ->> 'dataset', %(upload)s::text)
    ) AS upload;

-- Ids of uploads, in any bucket, that a version or a job refers to.
SELECT substring(named.place FROM '^s3://[^/]+/uploads/([^/]+)') AS upload
FROM (
    SELECT source AS place
    FROM datasets
    UNION ALL
    SELECT origin
    FROM datasets
    UNION ALL
    SELECT to_jsonb(spec) ->> 'dataset'
    FROM training_jobs
) AS named
WHERE substring(named.place FROM '^s3://[^/]+/uploads/([^/]+)') = ANY(%(values)s::text[])
GROUP BY upload;

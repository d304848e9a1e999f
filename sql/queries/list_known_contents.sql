-- The given values that are fingerprints of recorded datasets, or names of the prefixes of converted copies. A copy's
-- name may differ from its fingerprint.
SELECT fingerprint
FROM datasets
WHERE fingerprint = ANY(%(values)s::text[])
UNION
SELECT substring(source FROM '^s3://[^/]+/datasets/([0-9a-f]{64})(/|$)')
FROM datasets
WHERE substring(source FROM '^s3://[^/]+/datasets/([0-9a-f]{64})(/|$)') = ANY(%(values)s::text[])
UNION
SELECT dataset_fingerprint
FROM training_jobs
WHERE dataset_fingerprint = ANY(%(values)s::text[]);

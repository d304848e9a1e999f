-- The given values that are fingerprints of recorded datasets, or that occur as the name of a converted copy's prefix.
-- That name may differ from the copy's fingerprint.
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

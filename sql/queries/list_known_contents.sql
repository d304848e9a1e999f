SELECT fingerprint
FROM datasets
WHERE fingerprint = ANY(%(values)s::text[])
UNION
SELECT dataset_fingerprint
FROM training_jobs
WHERE dataset_fingerprint = ANY(%(values)s::text[]);

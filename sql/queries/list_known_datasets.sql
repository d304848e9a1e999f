SELECT DISTINCT fingerprint || '-' || task
FROM datasets
WHERE fingerprint || '-' || task = ANY(%(values)s::text[]);

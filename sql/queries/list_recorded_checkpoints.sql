-- A page of the rows that name an object with its hash; each page starts after the last row of the previous one.
SELECT
    job_id::text AS job_id,
    best_checkpoint_path::text AS best_checkpoint_path,
    best_checkpoint_sha256::text AS best_checkpoint_sha256,
    best_checkpoint_size,
    last_checkpoint_path::text AS last_checkpoint_path,
    last_checkpoint_sha256::text AS last_checkpoint_sha256,
    last_checkpoint_size
FROM training_jobs
WHERE job_id > %(after)s
    AND (best_checkpoint_sha256 IS NOT NULL OR last_checkpoint_sha256 IS NOT NULL)
ORDER BY job_id
LIMIT %(limit)s;

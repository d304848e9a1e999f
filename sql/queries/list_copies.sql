-- Every path at which these bytes are recorded.
SELECT path::text
FROM model_versions
WHERE sha256 = %(sha256)s
UNION
SELECT best_checkpoint_path::text
FROM training_jobs
WHERE best_checkpoint_sha256 = %(sha256)s
    AND best_checkpoint_path IS NOT NULL
UNION
SELECT last_checkpoint_path::text
FROM training_jobs
WHERE last_checkpoint_sha256 = %(sha256)s
    AND last_checkpoint_path IS NOT NULL;

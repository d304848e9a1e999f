-- Whether a job or a model version still names this object with this hash. For a copy in production, only the version
-- in production counts.
SELECT
    EXISTS (
        SELECT
        FROM training_jobs
        WHERE job_id = %(job_id)s
            AND (
                (best_checkpoint_path = %(path)s AND best_checkpoint_sha256 = %(sha256)s)
                OR (last_checkpoint_path = %(path)s AND last_checkpoint_sha256 = %(sha256)s)
            )
    )
    OR EXISTS (
        SELECT
        FROM model_versions
        WHERE name = %(name)s::text
            AND version = %(version)s::integer
            AND %(sha256)s IN (sha256, signature_sha256)
            AND (stage = 'production' OR NOT %(production)s)
    );

-- A filter that is NULL matches every version. The newest come first; a page starts after the last version of the
-- previous page.
SELECT
    name,
    version,
    job_id,
    run_id,
    stage,
    path,
    sha256,
    size,
    dataset,
    dataset_fingerprint,
    parameters_fingerprint,
    metrics,
    champion_version,
    champion_metrics,
    reason,
    promoted_by,
    promoted_at,
    signature_sha256,
    created_at
FROM model_versions
WHERE (%(name)s::text IS NULL OR name = %(name)s)
    AND (%(version)s::integer IS NULL OR version = %(version)s)
    AND (%(stage)s::text IS NULL OR stage = %(stage)s)
    AND (%(job_id)s::text IS NULL OR job_id = %(job_id)s)
    AND (%(path)s::text IS NULL OR path = %(path)s)
    AND (%(dataset_fingerprint)s::text IS NULL OR dataset_fingerprint = %(dataset_fingerprint)s)
    AND (%(parameters_fingerprint)s::text IS NULL OR parameters_fingerprint = %(parameters_fingerprint)s)
    AND (
        %(before_name)s::text IS NULL
        OR (created_at, name, version) < (
            SELECT
                seen.created_at,
                seen.name,
                seen.version
            FROM model_versions AS seen
            WHERE seen.name = %(before_name)s
                AND seen.version = %(before_version)s
        )
    )
ORDER BY
    created_at DESC,
    name DESC,
    version DESC
LIMIT %(limit)s;

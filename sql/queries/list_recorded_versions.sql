SELECT
    name,
    version,
    job_id,
    stage,
    path,
    sha256,
    size,
    signature_sha256
FROM model_versions
WHERE (name, version) > (%(after_name)s, %(after_version)s::integer)
ORDER BY
    name,
    version
LIMIT %(limit)s;

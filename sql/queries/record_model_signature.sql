UPDATE model_versions
SET signature_sha256 = %(sha256)s
WHERE name = %(name)s
    AND version = %(version)s
    AND signature_sha256 IS DISTINCT FROM %(sha256)s;

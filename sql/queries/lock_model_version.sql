-- Keeps the version from being rejected while it is being promoted.
SELECT version
FROM model_versions
WHERE name = %(name)s
    AND version = %(version)s
FOR UPDATE;

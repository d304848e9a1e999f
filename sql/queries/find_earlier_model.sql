-- Of the versions that are older than the one in production, the version that was in production most recently. Newer
-- versions that were in production have already been rolled back.
SELECT earlier.version
FROM model_versions AS earlier
LEFT JOIN model_versions AS present
    ON present.name = earlier.name
    AND present.stage = 'production'
WHERE earlier.name = %(name)s
    AND earlier.stage = 'archived'
    AND (present.version IS NULL OR earlier.version < present.version)
ORDER BY
    earlier.promoted_at DESC,
    earlier.version DESC
LIMIT 1;

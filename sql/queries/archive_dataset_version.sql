UPDATE datasets
SET archived_at = CASE WHEN %(archived)s THEN COALESCE(archived_at, now()) END
WHERE name = %(name)s
    AND version = %(version)s;

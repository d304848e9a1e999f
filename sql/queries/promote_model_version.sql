UPDATE model_versions
SET
    stage = 'production',
    promoted_by = %(promoted_by)s,
    promoted_at = clock_timestamp(),
    reason = COALESCE(%(reason)s, reason)
WHERE name = %(name)s
    AND version = %(version)s;

-- A version that was evaluated again becomes a candidate again, unless it is or was in production.
UPDATE model_versions
SET
    stage = 'candidate',
    metrics = %(metrics)s,
    champion_version = %(champion_version)s,
    champion_metrics = %(champion_metrics)s,
    reason = %(reason)s
WHERE name = %(name)s
    AND version = %(version)s
    AND stage IN ('candidate', 'rejected');

-- A version that is or was in production has been promoted, which is not undone here.
UPDATE model_versions
SET
    stage = 'rejected',
    reason = %(reason)s
WHERE name = %(name)s
    AND version = %(version)s
    AND stage IN ('candidate', 'rejected')
RETURNING version;

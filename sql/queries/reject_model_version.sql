-- A version that is or was in production was promoted by somebody, which is not undone here.
UPDATE model_versions
SET
    stage = 'rejected',
    reason = %(reason)s
WHERE name = %(name)s
    AND version = %(version)s
    AND stage IN ('candidate', 'rejected')
RETURNING version;

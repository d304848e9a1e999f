-- A version that is or was in production cannot be rejected, because a rejection would not undo its promotion.
UPDATE model_versions
SET
    stage = 'rejected',
    reason = %(reason)s
WHERE name = %(name)s
    AND version = %(version)s
    AND stage IN ('candidate', 'rejected');

-- Keep the first reason: the weights may differ from that point on, whatever follows.
UPDATE training_jobs
SET
    inexact_reason = COALESCE(inexact_reason, %(reason)s),
    updated_at = now()
WHERE job_id = %(job_id)s
    AND run_id = %(run_id)s
    AND COALESCE(attempt, %(attempt)s) = %(attempt)s
RETURNING inexact_reason;

-- An epoch that was finished and not recorded, because the database or its process was away.
INSERT INTO training_epochs (job_id, epoch, metrics, seconds)
VALUES (
    %(job_id)s,
    %(epoch)s,
    %(metrics)s,
    %(seconds)s
)
ON CONFLICT (job_id, epoch) DO NOTHING;

DELETE FROM checkpoint_audits
WHERE run_id = %(run_id)s
    OR found_at < now() - interval '180 days';

INSERT INTO checkpoint_audits (run_id, finding, job_id, path, detail, repair, size)
VALUES (
    %(run_id)s,
    %(finding)s,
    %(job_id)s,
    %(path)s,
    %(detail)s,
    %(repair)s,
    %(size)s
);

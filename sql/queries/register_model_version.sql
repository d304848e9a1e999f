-- created_at is not now(), the start of the transaction, because a later version's transaction may have started
-- earlier.
INSERT INTO model_versions (
    name,
    version,
    job_id,
    run_id,
    path,
    sha256,
    size,
    dataset,
    dataset_fingerprint,
    parameters_fingerprint,
    metrics,
    champion_version,
    champion_metrics,
    reason,
    created_at
)
VALUES (
    %(name)s,
    %(version)s,
    %(job_id)s,
    %(run_id)s,
    %(path)s,
    %(sha256)s,
    %(size)s,
    %(dataset)s,
    %(dataset_fingerprint)s,
    %(parameters_fingerprint)s,
    %(metrics)s,
    %(champion_version)s,
    %(champion_metrics)s,
    %(reason)s,
    clock_timestamp()
);

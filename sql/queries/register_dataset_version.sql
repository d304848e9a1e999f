-- created_at is not now(), the start of the transaction, because a later version's transaction may have started
-- earlier.
INSERT INTO datasets (
    name,
    version,
    fingerprint,
    source,
    origin,
    task,
    train_images,
    val_images,
    size,
    class_table,
    warnings,
    report,
    note,
    run_id,
    created_by,
    created_at
)
VALUES (
    %(name)s,
    %(version)s,
    %(fingerprint)s,
    %(source)s,
    %(origin)s,
    %(task)s,
    %(train_images)s,
    %(val_images)s,
    %(size)s,
    %(class_table)s,
    %(warnings)s,
    %(report)s,
    %(note)s,
    %(run_id)s,
    %(created_by)s,
    clock_timestamp()
);

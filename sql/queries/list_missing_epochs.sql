-- The given epochs that have no row.
SELECT finished.epoch
FROM unnest(%(epochs)s::integer[]) AS finished (epoch)
WHERE NOT EXISTS (
    SELECT
    FROM training_epochs
    WHERE training_epochs.job_id = %(job_id)s
        AND training_epochs.epoch = finished.epoch
)
ORDER BY finished.epoch;

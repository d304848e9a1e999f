-- States of jobs that runs of train_yolo have trained and that have ended, ranked per model and dataset. A model from S3
-- is identified by its path. All versions of a registered model count as one model, and all versions of a registered
-- dataset as one dataset. The checkpoints of other jobs were uploaded, even if a host application recorded a run.
-- `fitness` ranks jobs in the same order as Ultralytics' fitness. Depending on the task, it is the sum of the mAP50-95
-- of boxes, masks and keypoints, the top-1 plus the top-5 accuracy, the mIoU, or delta1.
WITH states AS (
    SELECT
        job_id::text AS job_id,
        run_id::text AS run_id,
        status::text AS status,
        regexp_replace(
            to_jsonb(spec) ->> 'model',
            '^(s3://[^/]+/models/[^/]+)/(?:versions/[0-9]+|production)/best\.pt$|^(model:[^@]+)@.*',
            '\1\2'
        ) AS model,
        COALESCE(dataset_name::text, to_jsonb(spec) ->> 'dataset') AS dataset,
        COALESCE(completed_at::timestamptz, updated_at::timestamptz) AS ended_at,
        pinned,
        (
            SELECT sum(number.value::text::double precision)
            FROM jsonb_each(
                CASE WHEN jsonb_typeof(to_jsonb(metrics)) = 'object' THEN to_jsonb(metrics) END
            ) AS number
            WHERE jsonb_typeof(number.value) = 'number'
                AND number.key IN (
                    'metrics/mAP50-95(B)',
                    'metrics/mAP50-95(M)',
                    'metrics/mAP50-95(P)',
                    'metrics/accuracy_top1',
                    'metrics/accuracy_top5',
                    'metrics/mIoU',
                    'metrics/delta1'
                )
        ) AS fitness
    FROM training_jobs
    WHERE status::text IN ('completed', 'failed', 'stopped')
        AND run_id IS NOT NULL
        AND dag_id::text = 'train_yolo'
        AND last_checkpoint_expired_at IS NULL
        AND (last_checkpoint_path IS NOT NULL OR durable_epoch IS NOT NULL)
),
ranked AS (
    SELECT
        states.*,
        row_number() OVER (
            PARTITION BY model, dataset
            ORDER BY ended_at DESC, job_id
        ) AS newest,
        row_number() OVER (
            PARTITION BY model, dataset
            ORDER BY fitness DESC NULLS LAST, ended_at DESC, job_id
        ) AS best
    FROM states
)
SELECT
    job_id,
    run_id,
    status
FROM ranked AS job
WHERE -- include: job_is_not_needed
    AND newest > %(keep_newest)s
    AND best > %(keep_best)s
    AND ended_at <= %(requested_at)s::timestamptz - make_interval(days => %(expire_after_days)s);

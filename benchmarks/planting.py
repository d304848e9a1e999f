"""Insert as many training jobs as a busy team accumulates in years, for benchmarks that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg import Connection

RARE_DATASET = "s3://data/first-try"
"""A dataset that only the 200 oldest jobs have."""
NEVER_TOGETHER = ("s3://data/set-04", "yolo11s")
"""A dataset and a model that are both common, but never used in the same job."""
ANCESTOR = "detect-ancestor"
"""A job with four generations of descendants, three children for each parent: 120 descendants."""
LONG = "detect-of-a-thousand-epochs"

_JOBS = """
WITH numbered AS (
    SELECT
        number,
        timestamptz '2026-06-01 12:00:00+00' - (%(jobs)s - number) * interval '97 seconds' AS created_at,
        number > %(jobs)s - 20 AS runs,
        -- In every period, some datasets and models are common and others are rare.
        floor(20 * power(random(), 2))::integer AS dataset,
        floor(8 * power(random(), 2))::integer AS model,
        random() AS luck,
        30 + floor(random() * 271)::integer AS epochs
    FROM generate_series(1, %(jobs)s) AS number
),
named AS (
    SELECT
        numbered.*,
        CASE
            WHEN number <= 200 THEN %(rare)s
            ELSE 's3://data/set-' || lpad(dataset::text, 2, '0')
        END AS dataset_name,
        (ARRAY[
            'yolo11n', 'yolo11s', 'yolo11m', 'yolo11l', 'yolo11x', 'yolov8n', 'yolov8s', 'yolo12n'
        ])[
            CASE WHEN dataset = 4 AND model = 1 THEN 3 ELSE model + 1 END
        ] AS model_name,
        'detect-' || to_char(created_at, 'YYYYMMDD-HH24MISS-') || left(md5(number::text), 6) AS job_id,
        CASE
            WHEN runs THEN 'running'
            WHEN luck < 0.1 THEN 'failed'
            WHEN luck < 0.14 THEN 'stopped'
            ELSE 'completed'
        END AS status
    FROM numbered
)
INSERT INTO training_jobs (
    job_id, status, stop_requested, dag_id, run_id, origin_run_id, attempt, spec, epoch, durable_epoch,
    epochs,
    metrics, best_checkpoint_path, best_checkpoint_sha256, best_checkpoint_size, last_checkpoint_path,
    last_checkpoint_sha256, last_checkpoint_size, triggered_by, created_at, started_at, completed_at,
    updated_at, parent_job_id, resumed_epoch
)
SELECT
    job_id, status, FALSE, 'train_yolo', 'manual__' || number, 'manual__' || number, 1,
    jsonb_build_object(
        'task', 'detect', 'model', model_name, 'dataset', dataset_name, 'epochs', epochs, 'imgsz', 640,
        'batch', 16, 'seed', number, 'device', NULL, 'patience', NULL, 'optimizer', 'auto', 'lr0', random(),
        'overrides', jsonb_build_object('mosaic', random(), 'close_mosaic', 10), 'resume_from', NULL,
        'fresh', FALSE, 'keep_local', FALSE, 'publish_every', 1
    ),
    epochs - 1, epochs - 1, epochs,
    jsonb_build_object(
        'metrics/mAP50(B)', random(), 'metrics/mAP50-95(B)', random(), 'metrics/precision(B)', random(),
        'metrics/recall(B)', random(), 'val/box_loss', random(), 'val/cls_loss', random(),
        'val/dfl_loss', random()
    ),
    path || 'best.pt', md5(job_id) || md5(job_id), 5473195, path || 'last.pt', md5(job_id) || md5(job_id),
    16318531, 'ada', created_at, created_at + interval '20 seconds',
    CASE WHEN status = 'completed' THEN created_at + interval '2 hours' END, created_at + interval '2 hours',
    CASE WHEN luck > 0.97 THEN 'detect-parent-' || number END, CASE WHEN luck > 0.97 THEN 10 END
FROM named
CROSS JOIN LATERAL (SELECT 's3://training-checkpoints/checkpoints/' || job_id || '/' AS path) AS stored
"""

_FAMILY = """
WITH RECURSIVE family AS (
    SELECT %(ancestor)s::text AS job_id, NULL::text AS parent_job_id, 0 AS generation
    UNION ALL
    SELECT family.job_id || '-' || child, family.job_id, generation + 1
    FROM family
    CROSS JOIN generate_series(1, 3) AS child
    WHERE generation < 4
)
INSERT INTO training_jobs (job_id, status, parent_job_id, resumed_epoch, spec, created_at)
SELECT
    job_id, 'completed', parent_job_id, 9, '{"model": "yolo11n", "dataset": "s3://data/set-00"}'::jsonb,
    timestamptz '2024-01-01 12:00:00+00' + generation * interval '1 day'
FROM family
UNION ALL
SELECT
    %(long)s, 'completed', NULL, NULL, '{"model": "yolo11n", "dataset": "s3://data/set-00"}'::jsonb,
    timestamptz '2024-01-01 12:00:00+00'
"""

_EPOCHS = """
INSERT INTO training_epochs (job_id, epoch, metrics, fitness, seconds, eta_seconds, recorded_at)
SELECT
    job_id, epoch, metrics, random(), 21.5, 60.0, created_at + epoch * interval '21 seconds'
FROM (
    SELECT job_id, epochs, metrics, created_at
    FROM training_jobs
    ORDER BY created_at DESC
    LIMIT %(with_epochs)s
) AS newest
CROSS JOIN LATERAL generate_series(0, epochs - 1) AS epoch
UNION ALL
SELECT %(long)s, epoch, '{"metrics/mAP50(B)": 0.5}', random(), 21.5, 60.0, now()
FROM generate_series(0, 999) AS epoch
"""


def plant(connection: Connection, jobs: int, with_epochs: int) -> None:
    """Write `jobs` jobs and the epochs of the newest ones; the connection commits each statement."""
    connection.execute(_JOBS, {"jobs": jobs, "rare": RARE_DATASET})
    connection.execute(_FAMILY, {"ancestor": ANCESTOR, "long": LONG})
    connection.execute(_EPOCHS, {"with_epochs": with_epochs, "long": LONG})


def settle(connection: Connection) -> None:
    """Collect statistics and mark pages as all-visible, as PostgreSQL's autovacuum does within minutes."""
    connection.execute("VACUUM (ANALYZE) training_jobs, training_epochs")

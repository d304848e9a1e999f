"""Assets for other Dags: `schedule=[PRODUCTION_MODEL]` runs a Dag whenever a model is promoted.

| asset | emitted when | extra of the event |
|---|---|---|
| `training-dataset` | the content of a dataset changes | `dataset`, `fingerprint`; `version` if registered |
| `production-model` | a version is promoted to production | `name`, `version`, `path`, `sha256`, `job_id` |
"""

from __future__ import annotations

from airflow.sdk import Asset

TRAINING_DATASET = Asset("training-dataset")
PRODUCTION_MODEL = Asset("production-model")

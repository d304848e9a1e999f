"""Where in a bucket each kind of object lies.

    checkpoints/{job_id}/best.pt, last.pt, last.previous.pt   the checkpoints of a training job
    models/{name}/versions/{version}/best.pt                  a registered version of a model
    models/{name}/production/best.pt                          the version in production
    pictures/{job_id}/{name}                                  what Ultralytics drew of a training
    reports/{job_id}/dataset.json                             what the check of a job's dataset found
    datasets/jobs/{job_id}.json                               the dataset that a job was begun with
    datasets/{fingerprint}.jsonl.gz                           the listing of a checked dataset
    pretrained/{name}                                         pretrained weights, each file once

Names and ids in these keys are checked by those who build them: none holds a slash.
"""

from __future__ import annotations

CHECKPOINTS = "checkpoints/"
MODELS = "models/"
PICTURES = "pictures/"
REPORTS = "reports/"

PROBE_KEY = f"{CHECKPOINTS}.probe"
"""An object of no job that stays: without it, no two probes at once could tell what they see."""


def checkpoint_key(job_id: str, kind: str) -> str:
    """Return the key of a job's best.pt, last.pt or last.previous.pt."""
    return f"{CHECKPOINTS}{job_id}/{kind}.pt"


def version_key(name: str, version: int) -> str:
    """Return the key of a registered version of a model."""
    return f"{MODELS}{name}/versions/{version}/best.pt"


def production_key(name: str) -> str:
    """Return the key of the version of a model that is in production."""
    return f"{MODELS}{name}/production/best.pt"


def pictures_prefix(job_id: str) -> str:
    """Return what the keys of a job's pictures begin with."""
    return f"{PICTURES}{job_id}/"


def dataset_report_key(job_id: str) -> str:
    """Return the key of the report on a job's dataset."""
    return f"{REPORTS}{job_id}/dataset.json"


def checked_dataset_key(job_id: str) -> str:
    """Return the key of the dataset that a job was begun with."""
    return f"datasets/jobs/{job_id}.json"


def listing_key(fingerprint: str) -> str:
    """Return the key of the listing of a checked dataset."""
    return f"datasets/{fingerprint}.jsonl.gz"


def pretrained_key(name: str) -> str:
    """Return the key of a file of pretrained weights."""
    return f"pretrained/{name}"

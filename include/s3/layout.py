"""The keys of all objects in a bucket.

    checkpoints/.probe                                        an object for testing the server; it has no job
    checkpoints/{job_id}/best.pt, last.pt, last.previous.pt   the checkpoints of a training job
    models/{name}/versions/{version}/best.pt                  a registered version of a model
    models/{name}/production/best.pt                          the version in production
    models/{name}/…/best.pt.sig                               the signature of either file
    pictures/{job_id}/{name}                                  a plot that Ultralytics drew of a training run
    reports/{job_id}/dataset.json                             the report on a job's dataset
    datasets/jobs/{job_id}.json                               the dataset that a job started with
    datasets/{fingerprint}.jsonl.gz                           the listing of a checked dataset
    datasets/{fingerprint}/{path}                             a file of a dataset that was converted
    datasets/conversions/{key}.json                           the result of converting an export
    datasets/reports/{fingerprint}-{task}.json                the report on a registered dataset
    datasets/manifests/{fingerprint}-{task}.jsonl.gz          the images and labels of a registered dataset
    datasets/differences/{fingerprint}-{task}/{base}.json     how a version's files differ from another's
    pretrained/{name}                                         pretrained weights
    uploads/{upload_id}/{path}                                a file of a dataset that a user uploaded
    uploads/{upload_id}/.upload.json                          the files of that upload, and who began it
    datasets/samples/{fingerprint}-{task}/{number}.jpg        a picture of a dataset with its labels drawn
    datasets/samples/{fingerprint}-{task}/index.json          which image each of these pictures shows

Callers validate the names and ids in these keys: none contains a slash.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

CHECKPOINTS = "checkpoints/"
MODELS = "models/"
PICTURES = "pictures/"
PRETRAINED = "pretrained/"
REPORTS = "reports/"
UPLOADS = "uploads/"
DATASETS = "datasets/"
MANIFESTS = f"{DATASETS}manifests/"
DIFFERENCES = f"{DATASETS}differences/"
DATASET_REPORTS = f"{DATASETS}reports/"
SAMPLES = f"{DATASETS}samples/"

SIGNATURE_SUFFIX = ".sig"
"""Appended to the key of a signed file, this gives the key of its signature."""

StoredKind = Literal["best", "last", "last.previous"]
"""Checkpoints of a job in S3; last.previous is the last.pt that the current last.pt replaced."""

CHECKPOINT_NAMES = frozenset(f"{kind}.pt" for kind in get_args(StoredKind))
"""Names of all files that a training run stores under its job's prefix."""

PROBE_KEY = f"{CHECKPOINTS}.probe"
"""An object that belongs to no job. It is never deleted, because a deletion would disturb concurrent
probes."""


def build_checkpoint_key(job_id: str, kind: StoredKind) -> str:
    """Return the key of a job's best.pt, last.pt or last.previous.pt."""
    return f"{CHECKPOINTS}{job_id}/{kind}.pt"


def build_version_key(name: str, version: int) -> str:
    """Return the key of a registered version of a model."""
    return f"{MODELS}{name}/versions/{version}/best.pt"


def build_production_key(name: str) -> str:
    """Return the key of a model's version in production."""
    return f"{MODELS}{name}/production/best.pt"


def build_pictures_prefix(job_id: str) -> str:
    """Return the key prefix of a job's pictures."""
    return f"{PICTURES}{job_id}/"


def build_dataset_report_key(job_id: str) -> str:
    """Return the key of the report on a job's dataset."""
    return f"{REPORTS}{job_id}/dataset.json"


def build_version_report_key(fingerprint: str, task: Task) -> str:
    """Return the key of the report on a registered dataset."""
    return f"{DATASET_REPORTS}{fingerprint}-{task}.json"


def build_checked_dataset_key(job_id: str) -> str:
    """Return the key of the dataset that a job started with."""
    return f"{DATASETS}jobs/{job_id}.json"


def build_listing_key(fingerprint: str) -> str:
    """Return the key of the listing of a checked dataset."""
    return f"{DATASETS}{fingerprint}.jsonl.gz"


def build_converted_prefix(fingerprint: str) -> str:
    """Return the key prefix of a dataset that was converted from a different format."""
    return f"{DATASETS}{fingerprint}/"


def build_conversion_key(key: str) -> str:
    """Return the key of an export's conversion record."""
    return f"{DATASETS}conversions/{key}.json"


def build_manifest_key(fingerprint: str, task: Task) -> str:
    """Return the key of the manifest of a registered dataset."""
    return f"{MANIFESTS}{fingerprint}-{task}.jsonl.gz"


def build_difference_key(fingerprint: str, task: Task, base_fingerprint: str, base_task: Task) -> str:
    """Return the key of the difference between the files of a version and those of the version `base`."""
    return f"{DIFFERENCES}{fingerprint}-{task}/{base_fingerprint}-{base_task}.json"


def build_pretrained_key(name: str) -> str:
    """Return the key of a file of pretrained weights."""
    return f"{PRETRAINED}{name}"


def build_upload_prefix(upload_id: str) -> str:
    """Return the key prefix of an upload."""
    return f"{UPLOADS}{upload_id}/"


def build_upload_record_key(upload_id: str) -> str:
    """Return the key of an upload's record: a hidden file, which is never part of the dataset."""
    return f"{build_upload_prefix(upload_id)}.upload.json"


def build_samples_prefix(fingerprint: str, task: Task) -> str:
    """Return the key prefix of a dataset's samples."""
    return f"{SAMPLES}{fingerprint}-{task}/"


def find_checkpoint_job(key: str) -> str | None:
    """Return the id of the job from a key below its prefix for checkpoints; None for any other key."""
    job_id, slash, _ = key.removeprefix(CHECKPOINTS).partition("/")
    return job_id if key.startswith(CHECKPOINTS) and slash else None


def find_picture_job(key: str) -> str | None:
    """Return the id of the job from the key of a picture; None for any other key."""
    match = re.fullmatch(rf"{PICTURES}([^/]+)/[^/]+", key)
    return match[1] if match else None


def find_report_job(key: str) -> str | None:
    """Return the id of the job from the key of the report on its dataset; None for any other key."""
    match = re.fullmatch(rf"{REPORTS}([^/]+)/dataset\.json", key)
    return match[1] if match else None


def find_production_name(key: str) -> str | None:
    """Return the name of the model whose file in production has this key; None for any other key."""
    match = re.fullmatch(rf"{MODELS}([^/]+)/production/best\.pt", key)
    return match[1] if match else None


def find_upload(key: str) -> str | None:
    """Return the id of the upload from the key of one of its objects; None for any other key."""
    match = re.match(rf"{UPLOADS}([^/]+)/", key)
    return match[1] if match else None


def find_derived_dataset(key: str) -> str | None:
    """Return `{fingerprint}-{task}` of the registered dataset from which an object was derived.

    Derived objects are manifests, differences, reports and samples. Returns None for any other key.
    """
    derived = "|".join((MANIFESTS, DIFFERENCES, DATASET_REPORTS, SAMPLES))
    match = re.match(rf"(?:{derived})([0-9a-f]{{64}}-[a-z]+)[./]", key)
    return match[1] if match else None


class ConvertedKey(NamedTuple):
    """The parts of a key below, or of, the prefix of a converted dataset."""

    fingerprint: str
    """Fingerprint of the converted dataset, which names its prefix."""
    path: str | None
    """The key without the prefix; None if the key is the prefix without its final slash."""

    @classmethod
    def parse(cls, key: str) -> ConvertedKey | None:
        """Split the key; return None if it does not belong to a converted dataset."""
        match = re.fullmatch(rf"{DATASETS}([0-9a-f]{{64}})(?:/(.*))?", key, re.DOTALL)
        return cls(match[1], match[2]) if match else None

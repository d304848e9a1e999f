"""The identity of a checkpoint in the user metadata of its S3 object, as ASCII text.

Keys have hyphens, because proxies in front of S3 servers drop header names with underscores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from include.checkpoints.checkpoint import Checkpoint

SEEDED_FROM = "seeded-from"
"""Metadata key for the job from which a checkpoint was copied within S3."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_EPOCH = re.compile(r"-?\d{1,9}")
_BATCH = re.compile(r"\d{1,9}")


def build_metadata(
    checkpoint: Checkpoint, job_id: str, run_id: str | None, ultralytics_version: str
) -> dict[str, str]:
    """Return the metadata that are stored with `checkpoint`.

    `run_id` is quoted because it may contain any character.
    """
    metadata = {
        "sha256": checkpoint.sha256,
        "epoch": str(checkpoint.epoch),
        "job-id": job_id,
        "ultralytics-version": ultralytics_version,
    }
    if checkpoint.batch:
        metadata["batch"] = str(checkpoint.batch)
    return metadata | ({"run-id": quote(run_id)} if run_id else {})


def parse_checkpoint(metadata: Mapping[str, str], uri: str, size: int) -> Checkpoint | None:
    """Return the checkpoint that the metadata of an object of `size` bytes describe.

    Returns None if this project did not write the metadata.
    """
    sha256, epoch, batch = metadata.get("sha256", ""), metadata.get("epoch", ""), metadata.get("batch", "0")
    if not (_SHA256.fullmatch(sha256) and _EPOCH.fullmatch(epoch) and _BATCH.fullmatch(batch)):
        return None
    return Checkpoint(path=uri, sha256=sha256, size=size, epoch=int(epoch), batch=int(batch))


def parse_run_id(metadata: Mapping[str, str]) -> str | None:
    """Return the Dag run that started the training run; None if it is unknown."""
    return unquote(metadata.get("run-id", "")) or None

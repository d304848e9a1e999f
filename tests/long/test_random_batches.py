"""A hundred interruptions at random batches: every task, one and two processes, disk kept or lost."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.interrupted_attempts import HOW, Place, Trial, store_model
from tests.support.long.report import Report
from tests.support.tiny_datasets import TASKS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3
    from include.ultralytics_tasks import Task

pytestmark = pytest.mark.timeout(1800)

INTERRUPTIONS = 10
EPOCHS = 16


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("task", TASKS)
def test_a_run_interrupted_at_random_batches_ends_with_the_same_weights(
    task: Task,
    processes: int,
    s3: S3,
    s3_client: S3Client,
    bucket: str,
    training_url: str,
    report: Report,
    tmp_path: Path,
) -> None:
    place = Place(s3, s3_client, bucket, training_url, tmp_path)
    store_model(place, task)
    weights = Trial(place, "whole", task, processes, EPOCHS).end()
    rng = random.Random(seed := random.randrange(2**32))
    again = Trial(place, "again", task, processes, EPOCHS)
    for number in range(INTERRUPTIONS):
        again.interrupt(HOW[number % len(HOW)], rng, disk_lost=rng.random() < 0.5)
    same = again.end() == weights
    whom = f"{task}, {processes} process{'es' if processes > 1 else ''}"
    report.add_interruptions(whom, again.interruptions, same=same)
    assert same, f"seed {seed}"
    assert len(again.interruptions) == INTERRUPTIONS

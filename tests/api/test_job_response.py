"""The response for jobs, which all routes share."""

from __future__ import annotations

from typing import Any

import psycopg

from include.api.job_response import build_response
from include.deployment.settings import DEFAULT_BUCKET
from include.jobs.repository import JobRepository
from tests.support.jobs import claim, recorded


def test_a_state_within_the_first_epoch_has_no_link_to_best_pt(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs, "a", "run1")
    jobs.record_durable("a", "run1", 1, -1, 40)
    links = build_response(recorded(jobs, "a"), connection, DEFAULT_BUCKET).links
    assert (links.best_checkpoint, links.last_checkpoint is None) == (None, False)
    jobs.record_durable("a", "run1", 1, 0)
    assert build_response(recorded(jobs, "a"), connection, DEFAULT_BUCKET).links.best_checkpoint is not None


def test_a_job_without_validation_has_no_link_to_best_pt_until_it_is_recorded(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs, "a", "run1", spec={"overrides": {"val": False}})
    jobs.record_durable("a", "run1", 1, 5)
    links = build_response(recorded(jobs, "a"), connection, DEFAULT_BUCKET).links
    assert (links.best_checkpoint, links.last_checkpoint is None) == (None, False)
    best = f"s3://{DEFAULT_BUCKET}/checkpoints/a/best.pt"
    connection.execute("UPDATE training_jobs SET best_checkpoint_path = %s", [best])
    assert build_response(recorded(jobs, "a"), connection, DEFAULT_BUCKET).links.best_checkpoint is not None

"""Look whether training data in S3 have changed since that was last announced, by listing them alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from pydantic import Field

from include.datasets.content import stored_fingerprint
from include.datasets.errors import DatasetError
from include.datasets.s3 import S3ObjectReader
from include.datasets.sources import S3Tree, S3Zip, parse_source
from include.deployment.connections import s3_client
from include.jobs.parameters import OptionalText
from include.limits import TEXT
from include.orchestration.assets import TRAINING_DATASET
from include.orchestration.failures import no_retry
from include.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.sdk import Context

    from include.datasets.storage import ObjectReader
    from include.retraining.plans import Plans

log = logging.getLogger(__name__)

_REMEMBERED_EVENTS = 1000
"""How many events are looked through for the last one of a dataset; an older one is announced again."""


class WatchRequest(Request):
    """Every parameter of `watch_dataset`."""

    dag_id = "watch_dataset"

    dataset: OptionalText = Field(
        None,
        max_length=TEXT,
        description="s3://… (a prefix, a .zip or a data YAML). Default: the S3 datasets of all retraining "
        "plans.",
    )


def list_datasets(conf: dict[str, Any], plans: Plans) -> list[str]:
    """Return the datasets to look at: the one that was asked for, or all that plans have in S3."""
    with no_retry():
        request = WatchRequest.parse(conf)
        if request.dataset is not None:
            _require_s3(request.dataset)
            return [request.dataset]
    planned = {plan.dataset: None for plan in plans.valid.values() if plan.dataset.startswith("s3://")}
    log.info("Watched are %s.", ", ".join(planned) or "no datasets: no valid plan has its data in S3")
    return list(planned)


def announce_if_changed(dataset: str, context: Context) -> dict[str, str]:
    """Make this task's event tell of the dataset's new content. Raises AirflowSkipException where it is old.

    What was announced last is what the events themselves say: they are stored together with the success of
    the task that emits them, so that no change is lost and none is announced twice.
    """
    events = context["inlet_events"][TRAINING_DATASET].ascending(False).limit(_REMEMBERED_EVENTS)
    with no_retry():
        news = find_change(dataset, (event.extra or {} for event in events), S3ObjectReader(s3_client()))
    if news is None:
        raise AirflowSkipException(f"{dataset} holds what was announced last.")
    context["outlet_events"][TRAINING_DATASET].extra = {**news}
    log.info("%s has changed; announcing %s.", dataset, news)
    return news


def find_change(
    dataset: str, announced: Iterable[Mapping[str, Any]], s3: ObjectReader
) -> dict[str, str] | None:
    """Return what is to be announced of the dataset; None if its content was announced last.

    announced are the extras of the events so far, the newest first. Raises DatasetError where there are no
    data, StoreErrors where S3 does not answer.
    """
    fingerprint = stored_fingerprint(_require_s3(dataset), s3)
    known = (
        extra["fingerprint"] for extra in announced if is_about(extra, dataset) and "fingerprint" in extra
    )
    if next(known, None) == fingerprint:
        return None
    return {"dataset": dataset, "fingerprint": fingerprint}


def is_about(extra: Mapping[str, Any], dataset: str) -> bool:
    """Whether an event is of this dataset."""
    named = extra.get("dataset")
    return isinstance(named, str) and named.rstrip("/") == dataset.rstrip("/")


def _require_s3(dataset: str) -> S3Zip | S3Tree:
    # What lies in S3 is read the same for every task.
    if dataset.startswith("s3://"):
        origin = parse_source(dataset, "detect")
        if isinstance(origin, S3Zip | S3Tree):
            return origin
    raise DatasetError(f"dataset={dataset!r} is not in S3, so it cannot be watched; give s3://bucket/…")

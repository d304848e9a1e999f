"""The work of `watch_dataset`: detects changed datasets in S3 by listing them, without downloads."""

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
"""How many events are searched for the last one of a dataset; beyond them it is announced again."""


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
    """Return the datasets to check: the requested one, or those of all plans that are in S3."""
    with no_retry():
        request = WatchRequest.parse(conf)
        if request.dataset is not None:
            _require_s3(request.dataset)
            return [request.dataset]
    planned = {plan.dataset: None for plan in plans.valid.values() if plan.dataset.startswith("s3://")}
    log.info("Watching %s.", ", ".join(planned) or "no datasets: no valid plan has its data in S3")
    return list(planned)


def announce_if_changed(dataset: str, context: Context) -> dict[str, str]:
    """Emit the asset with the dataset's new fingerprint. Raises AirflowSkipException if nothing changed.

    The events themselves record what was last announced: they are stored together with the success of the
    task that emits them, so no change is lost and none is announced twice.
    """
    events = context["inlet_events"][TRAINING_DATASET].ascending(False).limit(_REMEMBERED_EVENTS)
    with no_retry():
        news = find_change(dataset, (event.extra or {} for event in events), S3ObjectReader(s3_client()))
    if news is None:
        raise AirflowSkipException(f"{dataset} has not changed since the last announcement.")
    context["outlet_events"][TRAINING_DATASET].extra = {**news}
    log.info("%s has changed; announcing %s.", dataset, news)
    return news


def find_change(
    dataset: str, announced: Iterable[Mapping[str, Any]], s3: ObjectReader
) -> dict[str, str] | None:
    """Return the extra of the event to emit; None if this content was announced last.

    announced contains the extras of previous events, newest first. Raises DatasetError if there are no data,
    and StoreErrors.
    """
    fingerprint = stored_fingerprint(_require_s3(dataset), s3)
    known = (
        extra["fingerprint"] for extra in announced if is_about(extra, dataset) and "fingerprint" in extra
    )
    if next(known, None) == fingerprint:
        return None
    return {"dataset": dataset, "fingerprint": fingerprint}


def is_about(extra: Mapping[str, Any], dataset: str) -> bool:
    """Return whether an event is about this dataset."""
    name = extra.get("dataset")
    return isinstance(name, str) and name.rstrip("/") == dataset.rstrip("/")


def _require_s3(dataset: str) -> S3Zip | S3Tree:
    # Sources in S3 are parsed the same way for every task, so any will do.
    if dataset.startswith("s3://"):
        origin = parse_source(dataset, "detect")
        if isinstance(origin, S3Zip | S3Tree):
            return origin
    raise DatasetError(f"dataset={dataset!r} is not in S3, so it cannot be watched; give s3://bucket/…")

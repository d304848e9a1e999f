"""The work of `watch_dataset`: detects changed datasets in S3 by listing them, without downloads.

The content at an address is compared with the last announcement about that address. It is also compared with
the newest version from that address, for each dataset that was registered from there. Archived versions count
as well, so data that users have archived, or replaced with an upload, are not registered again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from pydantic import Field

from include.datasets.caching.content import compute_stored_fingerprint
from include.datasets.errors import DatasetError
from include.datasets.registered import parse_registered
from include.datasets.s3 import S3ObjectReader
from include.datasets.sources import S3File, S3Tree, parse_source
from include.deployment.connections import create_s3_client, open_bucket, open_training_db
from include.deployment.settings import Settings
from include.jobs.parameters import OptionalText
from include.limits import TEXT
from include.orchestration.assets import TRAINING_DATASET
from include.orchestration.failures import no_retry
from include.payload import Payload
from include.registry.repository import DatasetRepository
from include.registry.request import WATCH_RUN
from include.request import Request
from include.s3.errors import StoreRefusal
from include.s3.layout import UPLOADS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.sdk import Context

    from include.datasets.storage import ObjectReader
    from include.registry.version import DatasetVersion
    from include.retraining.plans import Plans, RetrainPlan
    from include.s3.bucket import Bucket
    from include.ultralytics_tasks import Task

log = logging.getLogger(__name__)

_REMEMBERED_EVENTS = 1000
"""How many of the newest events are searched for the last one about a dataset. If that event is older, the
dataset is announced again."""


class WatchRequest(Request):
    """Every parameter of `watch_dataset`."""

    dag_id = "watch_dataset"

    dataset: OptionalText = Field(
        None,
        max_length=TEXT,
        description="s3://… (a prefix, a .zip or a data YAML), or the name of a registered dataset whose "
        "data are in S3. Default: the datasets of all retraining plans.",
    )


@dataclass(frozen=True)
class WatchedDataset:
    """A dataset that gets a new version whenever the data at its source change."""

    name: str
    """Its name."""
    source: str
    """Address of its data."""
    task: Task
    """Task for which the data are checked."""
    newest: DatasetVersion | None
    """Its newest version from that source, archived or not; None if there is none."""


class RegistrationRun(Payload):
    """A run of `register_dataset` to trigger; the fields are arguments of TriggerDagRunOperator."""

    conf: dict[str, str]
    """Its parameters."""
    trigger_run_id: str
    """Its run id, which identifies the change of the data."""


def list_datasets(conf: dict[str, Any], plans: Plans) -> list[str]:
    """Return the addresses to check: the requested one, or the S3 addresses of all plans."""
    with no_retry():
        request = WatchRequest.parse(conf)
        if request.dataset is not None:
            if parse_registered(request.dataset) is not None:
                return []
            _require_s3(request.dataset)
            return [request.dataset]
    planned = {plan.dataset: None for plan in plans.valid.values() if plan.dataset.startswith("s3://")}
    log.info("Watching %s.", ", ".join(planned) or "no addresses: no valid plan has its data in S3")
    return list(planned)


def list_registrations(conf: dict[str, Any], plans: Plans) -> list[RegistrationRun]:
    """Return the runs of `register_dataset` to trigger: one for each dataset whose data have changed.

    If the run's conf gives no dataset, the run watches the registered datasets of all plans. For each address
    in a plan, it also watches the datasets that were registered from there. If there are none, the data at
    that address become a dataset with the plan's name.
    """
    with no_retry():
        request = WatchRequest.parse(conf)
        bucket = open_bucket(Settings.from_environment())
        with open_training_db() as connection:
            watched = find_watched(request.dataset, plans, DatasetRepository(connection), bucket)
    reader = S3ObjectReader(bucket.client)
    found = (build_registration(each, reader) for each in watched)
    changed = [registration for registration in found if registration is not None]
    log.info("Changed: %s.", ", ".join(each.conf["name"] for each in changed) or "no registered dataset")
    return changed


def find_watched(
    requested: str | None, plans: Plans, datasets: DatasetRepository, bucket: Bucket
) -> list[WatchedDataset]:
    """Return the datasets that get a new version whenever their data change. Raises DatasetUnknown."""
    if requested is not None:
        named = parse_registered(requested)
        if named is None:
            return _watch(datasets.find_at_source(requested))
        version = datasets.require(named)
        return (
            _watch_version(version, datasets) if named.version else _watch_name(named.name, datasets, bucket)
        )
    watched: dict[str, WatchedDataset] = {}
    for plan in plans.valid.values():
        for each in _watch_plan(plan, datasets, bucket):
            watched.setdefault(each.name, each)
    return list(watched.values())


def _watch_plan(plan: RetrainPlan, datasets: DatasetRepository, bucket: Bucket) -> list[WatchedDataset]:
    named = parse_registered(plan.dataset)
    if named is not None:
        return _watch_name(named.name, datasets, bucket) if named.version is None else []
    if not plan.dataset.startswith("s3://"):
        return []
    registered = _watch(datasets.find_at_source(plan.dataset))
    if registered or parse_registered(plan.name) is None:  # "digits" is reserved for the bundled data
        return registered
    return [WatchedDataset(plan.name, plan.dataset, plan.task, None)]


def _watch_name(name: str, datasets: DatasetRepository, bucket: Bucket) -> list[WatchedDataset]:
    """Watch the address of the dataset, even if users have uploaded newer versions since then."""
    version = datasets.find_changing(name, bucket.at(UPLOADS).uri)
    return _watch_version(version, datasets) if version else []


def _watch_version(version: DatasetVersion, datasets: DatasetRepository) -> list[WatchedDataset]:
    return _watch(datasets.find_at_source(version.origin or version.source, version.name))


def _watch(versions: Sequence[DatasetVersion]) -> list[WatchedDataset]:
    return [
        WatchedDataset(version.name, version.origin or version.source, version.task, version)
        for version in versions
    ]


def build_registration(watched: WatchedDataset, s3: ObjectReader) -> RegistrationRun | None:
    """Return the run that registers the current content; None if it is registered already or cannot be read.

    The run's id identifies the change. So if a registration fails, its data are not checked again until they
    change. Data that need a conversion are checked once more after each new version: the version records only
    the fingerprint of the converted data, not that of the source. Raises StoreErrors other than StoreRefusal.
    """
    try:
        fingerprint = compute_stored_fingerprint(_require_s3(watched.source), s3)
    except (DatasetError, StoreRefusal) as error:  # one dataset must not keep others from being watched
        log.warning("%s is not watched: %s", watched.name, error)
        return None
    newest = watched.newest
    if newest is not None and newest.fingerprint == fingerprint:
        return None
    conf = {
        "name": watched.name,
        "source": watched.source,
        "task": watched.task,
        "note": "Found by watch_dataset.",
    }
    after = newest.version if newest else 0
    run_id = f"{WATCH_RUN}{watched.name}__{after}__{fingerprint[:16]}"
    return RegistrationRun(conf=conf, trigger_run_id=run_id)


def announce_if_changed(dataset: str, context: Context) -> dict[str, str]:
    """Emit the asset with the dataset's new fingerprint. Raises AirflowSkipException if nothing changed.

    The events themselves are the record of announcements. They are stored together with the success of the
    task that emits them, so each change is announced exactly once.
    """
    events = context["inlet_events"][TRAINING_DATASET].ascending(False).limit(_REMEMBERED_EVENTS)
    with no_retry():
        news = find_change(
            dataset, (event.extra or {} for event in events), S3ObjectReader(create_s3_client())
        )
    if news is None:
        raise AirflowSkipException(f"{dataset} has not changed since the last announcement.")
    context["outlet_events"][TRAINING_DATASET].extra = {**news}
    log.info("%s has changed; announcing %s.", dataset, news)
    return news


def find_change(
    dataset: str, announced: Iterable[Mapping[str, Any]], s3: ObjectReader
) -> dict[str, str] | None:
    """Return the extra of the event to emit; None if the last announcement was of the same content.

    `announced` contains the extras of previous events, newest first. Raises DatasetError if there are no
    data, and StoreErrors.
    """
    fingerprint = compute_stored_fingerprint(_require_s3(dataset), s3)
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


def _require_s3(dataset: str) -> S3File | S3Tree:
    # Sources in S3 are parsed the same way for every task, so any task will do.
    if dataset.startswith("s3://"):
        origin = parse_source(dataset, "detect")
        if isinstance(origin, S3File | S3Tree):
            return origin
    raise DatasetError(f"dataset={dataset!r} is not in S3, so it cannot be watched; give s3://bucket/…")

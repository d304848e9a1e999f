"""The work of `register_dataset`: checks data, and records them as the next version of a dataset."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowSkipException

from include.claim.dataset_check import inspect_source
from include.claim.own_bucket import require_stored
from include.deployment.connections import open_bucket, open_training_db
from include.deployment.settings import Settings
from include.orchestration.assets import TRAINING_DATASET
from include.orchestration.failures import keep_refusal
from include.orchestration.notes import leave_note
from include.registry.difference import store_difference
from include.registry.manifests import ManifestMissing
from include.registry.objects import DatasetObjects
from include.registry.repository import DatasetRepository, Registration
from include.registry.request import WATCH_RUN, CheckedData, RegisteredVersion, RegisterRequest
from include.registry.version import WarningCount
from include.reports.report import ReportStore, report_on
from include.s3.errors import StoreRefusal

if TYPE_CHECKING:
    from airflow.sdk import Context


log = logging.getLogger(__name__)

_WARNINGS = 20
"""Maximum number of kinds of warnings that are recorded with a version."""


def check_data(context: Context) -> CheckedData:
    """Find and check the data given in the run's conf."""
    with keep_refusal(context):
        request = RegisterRequest.parse(context["dag_run"].conf)
        settings = Settings.from_environment()
        bucket = open_bucket(settings)
        found = inspect_source(request.source, request.task, settings, bucket)
        report = ReportStore(bucket).store(
            report_on(found, job_id=None, run_id=context["run_id"], dataset=request.source, task=request.task)
        )
    warnings = [
        WarningCount(kind=each.kind, title=each.title, remedy=each.remedy, count=each.count)
        for each in found.warnings[:_WARNINGS]
    ]
    return CheckedData(request=request, dataset=found.reference, warnings=warnings, report=report)


def record_version(checked: CheckedData, context: Context) -> RegisteredVersion:
    """Record the data as the next version, unless the newest version has the same content."""
    run, request = context["dag_run"], checked.request
    registration = Registration(
        name=request.name,
        run_id=run.run_id,
        created_by=run.triggering_user_name,
        note=request.note,
        only_if_changed=run.run_id.startswith(WATCH_RUN),
    )
    bucket = open_bucket(Settings.from_environment())
    with open_training_db() as connection, keep_refusal(context), connection.transaction():
        DatasetObjects.of(bucket, checked.dataset).lock(connection)
        require_stored(bucket, checked.dataset)
        version, created = DatasetRepository(connection).register(
            registration, checked.dataset, report=checked.report, warnings=checked.warnings
        )
    if created:
        log.info("Registered %s: %s.", version, version.source)
        leave_note(context, f"Registered {version}.")
    else:
        note = f"{request.source} has the content of {version} ({version.source}), so there is no new version"
        log.info("%s.", note)
        leave_note(context, f"{note}.")
    return RegisteredVersion(
        name=version.name, version=version.version, fingerprint=version.fingerprint, created=created
    )


def compare_with_base(registered: RegisteredVersion) -> None:
    """Store the difference between a new version and the one before, so that requests need not compute it.

    If they cannot be compared, for example because a manifest is missing or damaged, this is only logged: the
    version is already registered and has to be announced, and nothing else needs the difference.
    """
    with open_training_db() as connection:
        versions = DatasetRepository(connection).list_versions(
            registered.name, limit=1, before=registered.version
        )
        version = DatasetRepository(connection).require_version(registered.name, registered.version)
    if not versions:
        return
    try:
        store_difference(open_bucket(Settings.from_environment()), versions[0], version)
    except StoreRefusal as error:
        missing = "there is no " if isinstance(error, ManifestMissing) else ""
        log.warning("%s is not compared with %s: %s%s.", version, versions[0], missing, error)


def announce_version(registered: RegisteredVersion, context: Context) -> dict[str, str | int]:
    """Emit the asset for a new version. Raises AirflowSkipException if the content was registered already."""
    if not registered.created:
        raise AirflowSkipException(
            f"{registered.name}@{registered.version} already had this content, so nothing has changed."
        )
    compare_with_base(registered)
    news = registered.model_dump(include={"version", "fingerprint"}) | {"dataset": registered.name}
    context["outlet_events"][TRAINING_DATASET].extra = {**news}
    return news

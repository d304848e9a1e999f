"""Finds lost and damaged objects, objects without a row, and whatever dead processes left behind."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.audit.findings import AuditFinding, FindingKind
from include.audit.leftovers import find_leftovers
from include.audit.orphans import find_orphans
from include.audit.recorded import examine_object, is_still_recorded, list_recorded_objects
from include.audit.repair import describe_remedy, restore_object
from include.audit.report import AuditReport
from include.audit.stuck import find_stuck
from include.audit.uploads import find_abandoned_uploads
from include.database import Statements
from include.models.repository import ModelRepository
from include.s3.client import PARALLEL_REQUESTS

if TYPE_CHECKING:
    from psycopg import Connection

    from include.audit.liveness import LiveRuns
    from include.audit.recorded import RecordedObject
    from include.audit.request import AuditRequest
    from include.models.signing import ModelSigning
    from include.s3.bucket import Bucket
    from include.s3.conditional_writes import ConditionalWrites

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuditScope:
    """What an audit examines, and the tools that it uses."""

    connection: Connection[Any]
    """A connection to the training database."""
    bucket: Bucket
    """The bucket of the checkpoints, accessed with keys that may delete objects."""
    training_root: Path
    """The folder on this machine that contains the jobs' folders."""
    live_runs: LiveRuns
    """Asks Airflow which Dag runs are active."""
    now: datetime
    """The current time, from which the ages of objects, rows and folders are computed."""
    conditional_writes: ConditionalWrites
    """Which kinds of conditional writes the bucket's server supports."""
    signing: ModelSigning
    """Verifies a model version before the audit repairs its copy in production."""


def audit(scope: AuditScope, request: AuditRequest, run_id: str) -> AuditReport:
    """Run all checks, make safe repairs if the request says so, and record and report the findings.

    Repeating an audit is safe: the new findings replace earlier findings of the same run. Each finding is
    recorded immediately, so that a killed audit loses none. Raises StoreErrors and psycopg's errors.
    """
    report = AuditReport()
    connection, bucket, now = scope.connection, scope.bucket, scope.now
    with connection.transaction():  # also forgets all findings older than half a year
        Statements(connection).execute("forget_findings", run_id=run_id)
    findings = chain(
        find_unfenced(bucket.name, scope.conditional_writes),
        find_stuck(connection, scope.live_runs, now, repair=request.repair),
        find_abandoned_uploads(connection, bucket, now, repair=request.repair),
        find_orphans(connection, bucket, now, report),
        find_losses(scope, request, run_id, report),
        find_leftovers(connection, bucket.client, scope.training_root, now, repair=request.repair),
    )
    for finding in findings:
        report.add(finding)
        if report.found[finding.kind] == report.count_recorded(finding.kind):  # not too many of this kind
            _record(connection, run_id, finding)
    return report


def _record(connection: Connection[Any], run_id: str, finding: AuditFinding) -> None:
    """Log the finding, and add it to the table `checkpoint_audits`."""
    log.info("%s: %s. %s", finding.kind, finding.detail, finding.repair or "Not repaired")
    with connection.transaction():
        Statements(connection).execute(
            "record_finding",
            run_id=run_id,
            finding=str(finding.kind),
            job_id=finding.job_id,
            path=finding.path,
            detail=finding.detail,
            repair=finding.repair,
            size=finding.size,
        )


def find_unfenced(bucket: str, found: ConditionalWrites) -> Iterator[AuditFinding]:
    """Find the kinds of writes whose conditions the server does not honour."""
    for problem in found.list_problems():
        yield AuditFinding(
            FindingKind.UNFENCED,
            f"The server of bucket {bucket} does not refuse {problem}: processes that work on one job at the "
            "same time can overwrite or delete each other's state. Use a server that honours If-Match and "
            "If-None-Match",
            path=f"s3://{bucket}",
        )


def find_losses(
    scope: AuditScope, request: AuditRequest, seed: str, report: AuditReport
) -> Iterator[AuditFinding]:
    """Find recorded objects that are missing or damaged.

    Read the bytes of every recorded object if the request is `full`, otherwise those of a random sample.
    """
    sample = RandomSample(0 if request.full else request.sample, seed)
    with ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="audit") as threads:
        for page in list_recorded_objects(scope.connection, scope.bucket):
            findings = threads.map(partial(examine_object, scope.bucket.client, reread=request.full), page)
            for recorded, finding in zip(page, findings, strict=True):
                if finding is None:
                    sample.offer(recorded)
                else:
                    yield from _confirm(scope, recorded, finding, repair=request.repair)
            report.checked += len(page)
            if request.full:
                report.count_reread(page)
        read_again = threads.map(partial(examine_object, scope.bucket.client, reread=True), sample.objects)
        for recorded, finding in zip(sample.objects, read_again, strict=True):
            if finding is not None:
                yield from _confirm(scope, recorded, finding, repair=request.repair)
        report.count_reread(sample.objects)


def _confirm(
    scope: AuditScope, recorded: RecordedObject, finding: AuditFinding, *, repair: bool
) -> Iterator[AuditFinding]:
    """Yield the finding, unless the row has changed in the meantime.

    The finding describes the repair or, if nothing was repaired, says what to do.
    """
    if recorded.is_in_production and recorded.name is not None:
        # A promotion replaces the object first, and the row once it has read the object back.
        ModelRepository(scope.connection).wait_for_promotion(recorded.name)
    if not is_still_recorded(scope.connection, recorded):
        return
    done = restore_object(scope.connection, scope.bucket, recorded, scope.signing) if repair else None
    if done is not None:
        yield replace(finding, repair=done)
    else:
        yield replace(finding, detail=f"{finding.detail}. {describe_remedy(scope.bucket.client, recorded)}")


class RandomSample:
    """A uniform random sample of the objects that are offered, in constant memory, however many they are."""

    def __init__(self, size: int, seed: str) -> None:
        self.objects: list[RecordedObject] = []
        self._size, self._offered = size, 0
        self._dice = random.Random(seed)  # noqa: S311 - no secret depends on it

    def offer(self, recorded: RecordedObject) -> None:
        """Add the object with the right probability; if the sample is full, it replaces a random one."""
        self._offered += 1
        if len(self.objects) < self._size:
            self.objects.append(recorded)
        elif (place := self._dice.randrange(self._offered)) < self._size:
            self.objects[place] = recorded

"""Recording findings in the table `checkpoint_audits`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from include.database import Statements

if TYPE_CHECKING:
    from psycopg import Connection

    from include.audit.findings import AuditFinding
    from include.audit.report import AuditReport

log = logging.getLogger(__name__)


class Ledger:
    """Records each finding immediately, so that a killed audit loses none."""

    def __init__(self, connection: Connection[Any], run_id: str, report: AuditReport) -> None:
        self._connection, self._statements = connection, Statements(connection)
        self._run_id, self._report = run_id, report

    def begin(self) -> None:
        """Delete findings that earlier attempts of this run recorded, and findings older than half a year."""
        with self._connection.transaction():
            self._statements.execute("forget_findings", run_id=self._run_id)

    def add(self, finding: AuditFinding) -> None:
        """Count the finding; record and log it, unless there are too many of its kind."""
        self._report.add(finding)
        if self._report.found[finding.kind] > self._report.count_recorded(finding.kind):
            return
        log.info("%s: %s. %s", finding.kind, finding.detail, finding.repair or "Not repaired")
        with self._connection.transaction():
            self._statements.execute(
                "record_finding",
                run_id=self._run_id,
                finding=str(finding.kind),
                job_id=finding.job_id,
                path=finding.path,
                detail=finding.detail,
                repair=finding.repair,
                size=finding.size,
            )

"""The tasks of `audit_checkpoints`: open connections, run the audit or apply the policy, and report."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowFailException

from include.audit.audit import AuditScope, audit
from include.audit.request import POLICY_VARIABLE, AuditRequest
from include.audit.retention import retain
from include.deployment.connections import open_maintenance_bucket, open_training_db
from include.deployment.model_keys import load_verification
from include.deployment.settings import Settings
from include.orchestration.failures import no_retry
from include.orchestration.notes import leave_note
from include.orchestration.runs import build_live_runs
from include.s3.conditional_writes import probe_conditional_writes, require_conditional_deletes

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.audit.retention import RetentionReport

log = logging.getLogger(__name__)

SUMMARY = "summary"
"""Key of the XCom with the figures of `audit`. The XCom is set even if the task then fails because of lost
objects."""


def run_audit(context: Context) -> None:
    """Compare rows and objects. Fails at the end if an object recorded in a row is lost."""
    settings = Settings.from_environment()
    with no_retry():
        request = AuditRequest.parse(context["dag_run"].conf)
        request.choose_policy(_read_deployed_policy())  # an invalid policy must fail before anything is done
    with open_training_db() as connection, no_retry():
        bucket = open_maintenance_bucket(settings)
        scope = AuditScope(
            connection,
            bucket,
            settings.training_root,
            build_live_runs(context),
            datetime.now(UTC),
            probe_conditional_writes(bucket),
            load_verification(settings),
        )
        report = audit(scope, request, context["run_id"])
    log.info("\n%s", report.to_markdown())
    context["ti"].xcom_push(SUMMARY, report.summarize())
    leave_note(context, report.sentence)
    if report.failure is not None:
        raise AirflowFailException(report.failure)


def run_retention(context: Context) -> RetentionReport:
    """Apply the retention policy; return the figures."""
    with no_retry():
        policy = AuditRequest.parse(context["dag_run"].conf).choose_policy(_read_deployed_policy())
    with open_training_db() as connection, no_retry():
        bucket = open_maintenance_bucket(Settings.from_environment())
        if not policy.dry_run:
            require_conditional_deletes(bucket)
        report = retain(connection, bucket, policy, build_live_runs(context), context["dag_run"].run_after)
    log.info("\n%s", report.to_markdown())
    # There is no summary if `audit` was marked as success by hand.
    audited = context["ti"].xcom_pull(task_ids="audit", key=SUMMARY) or {}
    sentences = (audited.get("sentence"), report.sentence)
    leave_note(context, "\n\n".join(sentence for sentence in sentences if sentence))
    return report


def _read_deployed_policy() -> str | None:
    """Return the retention policy of this deployment; None if it has not set one."""
    value: str | None = Variable.get(POLICY_VARIABLE, default=None)
    return value

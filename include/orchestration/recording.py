"""What makes `record_checkpoints` honest: a statement that wrote nothing is a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from include.claim.payloads import TrainingManifest, require_result

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol


def result_of(ti: RuntimeTaskInstanceProtocol, task_id: str) -> Any:
    """Return what the task returned, in templates. Raises AirflowFailException if that is nothing."""
    return require_result(ti.xcom_pull(task_ids=task_id), task_id)


def manifest_of(ti: RuntimeTaskInstanceProtocol) -> TrainingManifest:
    """Return what `train` returned, in templates. Raises AirflowFailException if that is nothing."""
    return TrainingManifest.model_validate(result_of(ti, "train"))


def exactly_one_row(cursor: Any) -> list[tuple[Any, ...]]:
    """Return the rows of the statement, which must be one: a handler of SQLExecuteQueryOperator.

    Raises AirflowFailException for any other number of rows.
    """
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    if len(rows) != 1:
        raise AirflowFailException(
            f"record_checkpoints wrote {len(rows)} rows instead of one: the job's row is gone, or another "
            "run owns it now. "
            "The checkpoints are in S3; look at the row in training_jobs before you clear this task."
        )
    return rows

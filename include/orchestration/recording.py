"""Makes `record_checkpoints` fail if its statement wrote nothing."""

from __future__ import annotations

from typing import Any

from airflow.sdk.exceptions import AirflowFailException


def require_one_row(cursor: Any) -> list[tuple[Any, ...]]:
    """Return the single row of the statement (a handler of SQLExecuteQueryOperator).

    Raises AirflowFailException for any other number of rows.
    """
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    if len(rows) != 1:
        raise AirflowFailException(
            f"record_checkpoints wrote {len(rows)} rows instead of one: the job's row is gone, or another "
            "run owns it now. The checkpoints are in S3; look at the row in training_jobs before you clear "
            "this task."
        )
    return rows

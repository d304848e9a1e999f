"""Reads and parses the results of previous tasks (XCom)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk.exceptions import AirflowFailException
from pydantic import BaseModel

from include.attempt.manifest import TrainingManifest

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def parse_result(model: type[AnyModel], value: Any, sender: str) -> AnyModel:
    """Parse the result of the task `sender`. Raises AirflowFailException if there is none."""
    return model.model_validate(require_result(value, sender))


def require_result(value: Any, sender: str) -> Any:
    """Return `value`. Raises AirflowFailException for None, which a task with a result never returns."""
    if value is None:
        raise AirflowFailException(
            f"Task {sender} returned nothing, because it was marked as success by hand. Clear {sender} and "
            "everything downstream"
        )
    return value


def result_of(ti: RuntimeTaskInstanceProtocol, task_id: str) -> Any:
    """Return the result of a task, for use in templates. Raises AirflowFailException if there is none."""
    return require_result(ti.xcom_pull(task_ids=task_id), task_id)


def manifest_of(ti: RuntimeTaskInstanceProtocol) -> TrainingManifest:
    """Return the result of `train`, for use in templates. Raises AirflowFailException if there is none."""
    return TrainingManifest.model_validate(result_of(ti, "train"))

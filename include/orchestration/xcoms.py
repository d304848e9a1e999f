"""What a task gets from the tasks before it (XCom), parsed; what is missing is explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk.exceptions import AirflowFailException
from pydantic import BaseModel

from include.attempt.manifest import TrainingManifest

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def parse_result(model: type[AnyModel], value: Any, sender: str) -> AnyModel:
    """Parse what the task `sender` returned. Raises AirflowFailException if that is nothing."""
    return model.model_validate(require_result(value, sender))


def require_result(value: Any, sender: str) -> Any:
    """Return `value`. Raises AirflowFailException for None, which none of our tasks returns."""
    if value is None:
        raise AirflowFailException(
            f"Task {sender} returned nothing, because it was marked as success by hand. Clear {sender} and "
            "everything downstream"
        )
    return value


def result_of(ti: RuntimeTaskInstanceProtocol, task_id: str) -> Any:
    """Return what the task returned, in templates. Raises AirflowFailException if that is nothing."""
    return require_result(ti.xcom_pull(task_ids=task_id), task_id)


def manifest_of(ti: RuntimeTaskInstanceProtocol) -> TrainingManifest:
    """Return what `train` returned, in templates. Raises AirflowFailException if that is nothing."""
    return TrainingManifest.model_validate(result_of(ti, "train"))

"""Typed Airflow tasks: their functions receive and return models, which Airflow passes on as plain JSON.

A decorated function keeps its type, so mypy can check a task's result against the next task's arguments, as
in calls to plain functions. Operators and templates read results with `parse_result` and `result_of`.
"""

from __future__ import annotations

import functools
import inspect
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_type_hints

from airflow.sdk import XComArg, chain, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException
from pydantic import BaseModel, TypeAdapter

from include.attempt.manifest import TrainingManifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk.definitions._internal.mixins import DependencyMixin
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

AnyModel = TypeVar("AnyModel", bound=BaseModel)
Function = TypeVar("Function", bound="Callable[..., Any]")


def typed_task(**options: Any) -> Callable[[Function], Function]:
    """Make a function an Airflow task; `options` are those of `@task`.

    Arguments are parsed and the result is serialised according to the annotations. In a Dag, a call returns
    Airflow's reference to the result, although mypy sees the result's type. A user may mark a task as success
    before it returns its result. A task that needs this result then raises AirflowFailException, unless the
    parameter that receives it may be None.
    """

    def decorate(function: Function) -> Function:
        senders: dict[tuple[str, str], str] = {}  # (task, argument) -> task that returns the argument

        @functools.wraps(function)
        def run(**arguments: Any) -> Any:
            types = get_type_hints(function)
            task_id = get_current_context()["ti"].task_id
            for name, value in arguments.items():
                arguments[name] = _parse(types[name], value, senders.get((task_id, name)))
            return TypeAdapter(types["return"]).dump_python(function(**arguments), mode="json")

        airflow_task = task(**options)(run)

        @functools.wraps(function)
        def call(*positional: Any, **named: Any) -> Any:
            arguments = inspect.signature(function).bind(*positional, **named).arguments
            result = airflow_task(**arguments)
            for name, value in arguments.items():
                if isinstance(value, XComArg):
                    senders[result.operator.task_id, name] = _find_task_id(value)
            return result

        return cast("Function", call)

    return decorate


def as_xcom(result: object) -> XComArg:
    """Return the reference that a call of a typed task returned, for Airflow's own operators."""
    return cast("XComArg", result)


def run_in_order(*tasks: object) -> None:
    """Make each task, or list of tasks, wait for the previous one: `chain` for typed tasks."""
    chain(*cast("tuple[DependencyMixin, ...]", tasks))


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


def _parse(kind: Any, value: Any, sender: str | None) -> Any:
    if sender is not None and NoneType not in get_args(kind):
        value = require_result(value, sender)
    return TypeAdapter(kind).validate_python(value)


def _find_task_id(result: XComArg) -> str:
    """Return the id of the task that returns `result`."""
    operator, _ = next(result.iter_references())
    return str(operator.task_id)

"""Passes on why a task refused a request, because Airflow's REST API does not say why a task failed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.errors import FinalError
from include.plain_text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

REFUSAL = "refusal"
"""Key of the XCom with the sentence."""


@contextmanager
def keep_refusal(context: Context) -> Iterator[None]:
    """Push the sentence of a FinalError as an XCom, from which our API reads it."""
    try:
        yield
    except FinalError as error:
        context["ti"].xcom_push(key=REFUSAL, value=escape_controls(str(error)))
        raise

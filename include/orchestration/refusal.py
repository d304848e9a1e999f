"""Hands on why a task refuses what it was asked for: Airflow's REST API does not say it."""

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
    """Hand on the sentence of a FinalError, for our API."""
    try:
        yield
    except FinalError as error:
        context["ti"].xcom_push(key=REFUSAL, value=escape_controls(str(error)))
        raise

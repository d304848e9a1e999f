"""The training database, for the time of a request."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends
from psycopg import Connection, DataError
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads

from include.api.connections import create_pool, lend
from include.deployment.connections import connect_training_db

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg.abc import Buffer


def lenient(connection: Connection[Any]) -> Connection[Any]:
    """Let one row of a platform that Python or JSON cannot express be shown without what they cannot.

    PostgreSQL knows moments such as infinity and numbers such as 1e999; each becomes None, instead of an
    error in the place of a whole page.
    """
    connection.adapters.register_loader("timestamptz", _LenientMoment)
    set_json_loads(_lenient_json, connection)
    return connection


class _LenientMoment(TimestamptzLoader):
    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except DataError:
            return None  # type: ignore[return-value]  # as for NULL


def _lenient_json(data: str | bytes) -> Any:
    text = data if isinstance(data, str) else data.decode()
    try:
        value = json.loads(text, parse_float=_finite, parse_int=_sayable)
        if "\\u" in text:  # half a surrogate pair is allowed in a column of type json
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _sayable(number: str) -> int | None:
    """JSON sets no limit, but programs do: none has a number of more digits than a double."""
    return int(number) if len(number) <= sys.float_info.max_10_exp else None


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def _connect() -> Connection[Any]:
    connection = lenient(connect_training_db())
    connection.prepare_threshold = None  # a proxy between us need not know of prepared statements
    return connection


pool = create_pool(_connect)
connected = partial(lend, pool)
"""A context: an open connection, in no transaction. It blocks, so not on an event loop."""


def _connected() -> Iterator[Connection[Any]]:
    with connected() as connection:
        yield connection


Database = Annotated[Connection[Any], Depends(_connected)]
"""A parameter of a route, which must be a plain `def`: such a connection until the answer was made."""

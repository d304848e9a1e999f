"""Reads server-sent events as a browser does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from include.stack.ports import open_session

Event = tuple[str, str | None, Any]


class Listener:
    """An open event stream."""

    def __init__(
        self,
        url: str,
        bearer: str | None = None,
        after: int | None = None,
        last_event_id: int | None = None,
        trusted: Path | None = None,
    ) -> None:
        query = {} if after is None else {"after": after}
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        with open_session() as session:
            session.verify = str(trusted) if trusted else True
            self.answer = session.get(url, params=query, headers=headers, stream=True, timeout=60)
        self._lines = self.answer.iter_lines(chunk_size=1, decode_unicode=True)

    def close(self) -> None:
        self.answer.close()

    def __iter__(self) -> Iterator[Event]:
        """Yield each event as its name, id and data."""
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name in {"event", "id", "data", "retry"}:
                fields[name] = value
            elif not line and fields:
                yield fields["event"], fields.get("id"), json.loads(fields["data"])
                fields = {}

    def until(self, name: str, number: int = 1) -> list[Event]:
        """Return the next events, up to and including the `number`-th with that name."""
        seen: list[Event] = []
        for event in self:
            seen.append(event)
            if sum(each[0] == name for each in seen) == number:
                return seen
        raise AssertionError(f"the stream ended with {seen}")


def epochs(events: list[Event]) -> list[int]:
    """Return the epochs among the events; the id of an epoch's event must be the epoch's number."""
    numbered = [(event_id, data["epoch"]) for name, event_id, data in events if name == "epoch"]
    assert [event_id for event_id, _ in numbered] == [str(epoch) for _, epoch in numbered]
    return [epoch for _, epoch in numbered]

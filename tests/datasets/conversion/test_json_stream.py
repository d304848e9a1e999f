"""Large JSON files are read element by element, however the bytes are divided into chunks."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from include.datasets.conversion import json_stream
from include.datasets.conversion.json_stream import iterate_arrays

DATA: dict[str, Any] = {
    "skipped": {"a": [1, {"b": "]}"}], "c": "\\"},
    "first": [1, 12, -3.5e10, {"x": [1, [2]], "y": '"]}'}, "é\n", None, True, [], {}],
    "empty": [],
    "number": 123456,
}


def read(text: io.StringIO, wanted: set[str], longest: int) -> list[tuple[str, list[Any]]]:
    return [(key, list(elements)) for key, elements in iterate_arrays(text, wanted, longest)]


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize("indent", [None, 2])
def test_elements_do_not_depend_on_the_chunk_size(
    chunk: int, indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    text = io.StringIO(json.dumps(DATA, indent=indent))
    assert read(text, {"first", "empty"}, 1000) == [("first", DATA["first"]), ("empty", [])]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "does not contain a JSON object"),
        ("[1]", "does not contain a JSON object"),
        ('{"a": [1, 2}', "expected ',', but found '}'"),
        ('{"a": [1 2]}', "expected ',', but found '2'"),
        ('{"a": [1,]}', "a comma before"),
        ('{"a": [1],}', "a comma before"),
        ('{"a": [1]} x', "more text after the JSON object"),
        ('{"a": 1}', "'a' is not an array"),
        ('{"a": [1], "a": [2]}', "contains 'a' twice"),
        ('{"a": [nul', "not valid JSON"),
        ('{"a": [' + "[" * 20_000, "nested too deeply"),
        ('{"a": ["' + "x" * 5000 + '"]}', "exceeds the limit of 1,000 characters"),
        ('{"a": [' + "1" * 900, "the file ends"),
        ('{"a": [' + "1" * 4500 + "]}", "a number with too many digits"),
    ],
)
def test_broken_files_are_refused_with_an_explanation(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read(io.StringIO(text), {"a"}, 1000 if "x" in text else 10_000)

"""Reads the arrays of a JSON object one element at a time, because a COCO file may not fit into memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_CHUNK = 1024 * 1024
_WHITESPACE = " \t\n\r"
_DELIMITERS = f"{_WHITESPACE},:]}}"


def iterate_arrays(
    file: TextIO, wanted: Collection[str], longest: int
) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield (key, elements) for each wanted array of a JSON object, in the file's order.

    All elements of an array must be read before the next array. Other members are skipped. `longest` is the
    maximum length of an element or a skipped member, in characters. Both iterators raise ValueError if the
    text is not a JSON object in UTF-8, if an element or member is longer, or if a wanted member is not an
    array or occurs twice.
    """
    reader = _Reader(file, longest)
    if reader.peek() != "{":
        raise ValueError("it does not contain a JSON object")
    seen = set[str]()
    for key in reader.read_members():
        if key not in wanted:
            reader.read_value()
            continue
        if key in seen:
            raise ValueError(f"it contains {key!r} twice")
        if reader.peek() != "[":
            raise ValueError(f"{key!r} is not an array")
        seen.add(key)
        yield key, reader.read_elements()
    if reader.peek():
        raise ValueError("there is more text after the JSON object")


class _Reader:
    """A position in a text that is read in chunks."""

    def __init__(self, file: TextIO, longest: int) -> None:
        self._file, self._longest = file, longest
        self._text, self._at, self._has_ended = "", 0, False
        self._decoder = json.JSONDecoder()

    def read_members(self) -> Iterator[str]:
        """Yield the keys of the object that starts here; the caller reads each value."""
        self._take("{")
        while self.peek() != "}":
            key = self.read_value()
            if not isinstance(key, str):
                raise ValueError("a key is not a string")  # noqa: TRY004 - callers expect ValueError
            self._take(":")
            yield key
            self._take_separator("}")
        self._take("}")

    def read_elements(self) -> Iterator[Any]:
        """Yield the elements of the array that starts here."""
        self._take("[")
        while self.peek() != "]":
            yield self.read_value()
            self._take_separator("]")
        self._take("]")

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _WHITESPACE:
                self._at += 1
            if self._at < len(self._text) or not self._read(_CHUNK):
                return self._text[self._at : self._at + 1]

    def read_value(self) -> Any:
        """Return the value that starts here."""
        self.peek()
        wanted = _CHUNK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                problem = f"it is not valid JSON ({error.msg})"
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            except ValueError:  # Python refuses to convert a number of thousands of digits
                raise ValueError("it contains a number with too many digits") from None
            else:
                # The buffer may end within a number: of `-3.` and `3e`, only `-3` and `3` are parsed.
                follows = self._text[end : end + 1]
                is_whole = follows in _DELIMITERS if follows else self._has_ended
                if is_whole and end - self._at <= self._longest:
                    self._at = end
                    return value
                problem = f"it is not valid JSON ({follows!r} follows a value)" if follows else ""
            if len(self._text) - self._at > self._longest:
                raise ValueError(
                    f"it is not valid JSON, or one of its values exceeds the limit of {self._longest:,} "
                    "characters"
                )
            if not self._read(wanted) and problem:
                raise ValueError(problem)
            wanted *= 2

    def _take_separator(self, end: str) -> None:
        if self.peek() != end:
            self._take(",")
            if self.peek() == end:
                raise ValueError(f"it is not valid JSON (a comma before {end!r})")

    def _take(self, character: str) -> None:
        if (found := self.peek()) != character:
            place = f"found {found!r}" if found else "the file ends"
            raise ValueError(f"it is not valid JSON (expected {character!r}, but {place})")
        self._at += 1

    def _read(self, size: int) -> bool:
        """Append the next characters to the text, dropping the parsed part. Returns False at the end."""
        try:
            more = self._file.read(size)
        except UnicodeDecodeError:
            raise ValueError("it is not valid UTF-8") from None
        self._text, self._at = self._text[self._at :] + more, 0
        self._has_ended = not more
        return bool(more)

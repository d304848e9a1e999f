"""Loads YAML from untrusted sources, after measuring the size to which it would expand.

354 bytes of aliases can expand to gigabytes, and a thousand brackets exceed Python's recursion limit. The
parser's events reveal both before any object is created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from include.datasets.text import open_regular
from include.limits import YAML_BYTES, YAML_DEPTH, YAML_NODES, YAML_NUMBER, YAML_SCALAR, in_words

if TYPE_CHECKING:
    from pathlib import Path


class _Loader(yaml.CSafeLoader):
    """Builds only plain data, with whole numbers of limited length.

    libyaml's loader, written in C, is twenty times as fast as Python's; every wheel of PyYAML includes it.
    """

    def construct_short_int(self, node: yaml.ScalarNode) -> Any:
        if len(node.value) > YAML_NUMBER:
            raise _TooLarge(
                node,
                f"a number of {len(node.value):,} digits; the limit is {YAML_NUMBER}. Put it in quotes "
                "if it is a name",
            )
        return self.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_short_int)


class _TooLarge(ValueError):
    def __init__(self, node: yaml.Event | yaml.Node, what: str) -> None:
        super().__init__(f"line {node.start_mark.line + 1 if node.start_mark else '?'}: {what}")


def load_yaml(path: Path) -> Any:
    """Return the content of the YAML file. Raises OSErrors, and a ValueError that does not quote the file."""
    with open_regular(path, YAML_BYTES) as file:
        content = file.read(YAML_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not valid UTF-8 (byte {error.start}); save it as UTF-8") from None
    try:
        _require_bounded(text)
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except _TooLarge:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"it is not valid YAML{place}; correct it there") from None
    except yaml.reader.ReaderError:
        raise ValueError("it is not valid YAML: it contains a control character; remove it") from None
    except yaml.YAMLError:
        raise ValueError("it is not valid YAML; check it with a YAML editor") from None
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        # PyYAML does not validate dates, such as 2001-99-99, or !!binary values.
        raise ValueError(
            f"a value in it is malformed ({type(error).__name__}); put dates and codes in quotes"
        ) from None


def _require_bounded(text: str) -> None:
    """Raise ValueError if the expanded document would exceed the limits."""
    size = _Size()
    for event in yaml.parse(text, _Loader):
        size.count(event)
        if size.nodes > YAML_NODES:
            raise _TooLarge(
                event,
                f"up to here it has more than {YAML_NODES:,} values, with aliases (*name) expanded; shorten "
                "it, and list many images in a .txt file",
            )
        if size.characters > YAML_BYTES:
            raise _TooLarge(
                event,
                f"up to here it has more than {in_words(YAML_BYTES)} of text, with aliases (*name) expanded; "
                "shorten it",
            )


class _Size:
    """Counts the nodes of a document and their characters, with aliases expanded."""

    def __init__(self) -> None:
        self.nodes = self.characters = 0
        # For each open mapping or sequence: its anchor, and the counts before it.
        self._open: list[tuple[str | None, int, int]] = []
        self._anchors: dict[str, tuple[int, int]] = {}

    def count(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.CollectionStartEvent):
            self._open_collection(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, nodes, characters = self._open.pop()
            if anchor:
                self._anchors[anchor] = self.nodes - nodes, self.characters - characters
        elif isinstance(event, yaml.ScalarEvent):
            self._add_scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._add_alias(event)

    def _open_collection(self, event: yaml.CollectionStartEvent) -> None:
        self._open.append((event.anchor, self.nodes, self.characters))
        if len(self._open) > YAML_DEPTH:
            raise _TooLarge(event, f"it is nested more than {YAML_DEPTH} levels deep; flatten it")
        self.nodes += 1

    def _add_scalar(self, event: yaml.ScalarEvent) -> None:
        length = len(event.value)
        if length > YAML_SCALAR:
            raise _TooLarge(event, f"a value has more than {YAML_SCALAR:,} characters; shorten it")
        self.nodes += 1
        self.characters += length
        if event.anchor:
            self._anchors[event.anchor] = 1, length

    def _add_alias(self, event: yaml.AliasEvent) -> None:
        if any(event.anchor == anchor for anchor, _, _ in self._open):
            raise _TooLarge(event, "an alias refers to the value that contains it; remove it")
        # If there is no such anchor, loading the document fails, so its size does not matter here.
        nodes, characters = self._anchors.get(event.anchor or "", (1, 0))
        self.nodes += nodes
        self.characters += characters

"""Whatever is damaged in a state, it is recognised as damaged: another copy can then be used."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from include.attempt.found_state import require_whole
from include.training.contract import UnreadableCheckpoint


def test_a_changed_byte_is_harmless_or_recognised_as_damage(tmp_path: Path) -> None:
    """The zip module raises errors of many kinds for a damaged name, method, flag or offset."""
    state = tmp_path / "last.pt"
    with zipfile.ZipFile(state, "w") as archive:
        archive.writestr("last/data.pkl", "pickled")
        archive.writestr("last/data/0é", "weights")
    content = state.read_bytes()
    for place in range(len(content)):
        for value in (0, content[place] ^ 0x80, 255):
            state.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            with suppress(UnreadableCheckpoint):
                require_whole(state)


def test_a_changed_weight_is_recognised_as_damage(tmp_path: Path) -> None:
    state = tmp_path / "last.pt"
    with zipfile.ZipFile(state, "w") as archive:
        archive.writestr("last/data/0", "weights")
    state.write_bytes(state.read_bytes().replace(b"weights", b"weighty"))
    with pytest.raises(UnreadableCheckpoint, match="the checksum of its entry last/data/0 is wrong"):
        require_whole(state)

"""A file that passed a check is not read again unless the file or the way of reading it changes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from include.datasets.checking import known_files as memory
from include.datasets.checking.images import ImageFacts, ImageRules, UnusableImage
from include.datasets.checking.images import read_image as read_really
from include.datasets.checking.known_files import open_known_files
from include.datasets.checking.label_lines import CheckedLabels, LabelRules
from include.datasets.checking.labels import check_labels

ROOT = Path(__file__).parents[2]
COLOUR = ImageRules()


class Machine:
    """A machine with an image; counts how often the image file itself was read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.image = folder / "checked.sqlite3", folder / "0.png"
        self.reads = 0
        Image.new("RGB", (40, 30), "red").save(self.image)

        def count(path: Path, name: str, rules: ImageRules) -> ImageFacts:
            self.reads += 1
            return read_really(path, name, rules)

        monkeypatch.setattr(memory, "read_image", count)

    def read(self, name: str = "a/0.png", rules: ImageRules = COLOUR) -> ImageFacts:
        with open_known_files(self.file) as files:
            return files.read_image(self.image, name, rules)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_an_image_is_read_once_for_each_way_of_reading_it(machine: Machine, tmp_path: Path) -> None:
    facts = machine.read()
    assert facts == read_really(machine.image, "0.png", COLOUR)
    machine.image.rename(tmp_path / "moved.png")
    machine.image = tmp_path / "moved.png"
    assert machine.read("another name.png") == facts
    assert machine.reads == 1
    machine.read("0.jpg")
    machine.read(rules=ImageRules(for_classify=True))
    machine.read(rules=ImageRules(channels=1))
    assert machine.reads == 4


def test_labels_are_read_once_for_each_way_of_reading_them(machine: Machine, tmp_path: Path) -> None:
    """All findings of the first reading are remembered, warnings included."""
    file = tmp_path / "0.txt"
    file.write_text("0 0.5 0.5 0.001 0.001\n1 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n")
    reads: list[str] = []

    def read(how: str) -> CheckedLabels:
        def check() -> CheckedLabels:
            reads.append(how)
            return check_labels(file, LabelRules("detect", 2), (40, 30))

        with open_known_files(machine.file) as files:
            return files.read_labels(file, how, check)

    found = [read("one way"), read("one way"), read("another")]
    assert found[0] == found[1] == found[2]
    assert {problem.kind for problem in found[1].warnings} == {"tiny-boxes", "duplicate-rows"}
    assert found[1].classes == {0: 1, 1: 1}
    assert reads == ["one way", "another"]
    file.write_text("7 0.5 0.5 0.5 0.5\n")
    assert read("one way").problems
    assert read("one way").problems
    assert reads == ["one way", "another", "one way", "one way"], "labels with an error are read each time"


def test_entries_of_an_older_version_are_read_again(machine: Machine) -> None:
    machine.read()
    with closing(sqlite3.connect(machine.file)) as database, database:
        database.execute("UPDATE files SET found = '{}'")
    machine.read()
    machine.read()
    assert machine.reads == 2


@pytest.mark.parametrize("change", ["replaced", "changed in place"])
def test_a_changed_image_is_read_again(change: str, machine: Machine) -> None:
    before = machine.read()
    if change == "replaced":
        machine.image.unlink()
    Image.new("RGB", (50, 30), "red").save(machine.image)
    after = machine.read()
    assert (before.width, after.width, machine.reads) == (40, 50, 2)


def test_a_broken_image_is_read_each_time(machine: Machine) -> None:
    machine.image.write_bytes(machine.image.read_bytes()[:60])
    for _ in range(2):
        with pytest.raises(UnusableImage):
            machine.read()
    assert machine.reads == 2


def test_another_decoder_version_reads_every_file_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.read()
    monkeypatch.setattr("PIL.__version__", "99")
    machine.read()
    assert machine.reads == 2


@pytest.mark.parametrize("content", [b"", b"no database" * 1000], ids=["empty", "no database"])
def test_a_damaged_database_costs_only_time(content: bytes, machine: Machine) -> None:
    machine.file.write_bytes(content)
    machine.read()
    machine.read()
    machine.read()
    assert machine.reads <= 2


def test_an_unwritable_folder_costs_only_time(machine: Machine) -> None:
    machine.file = machine.file.parent / "missing" / "checked.sqlite3"
    assert machine.read() == machine.read()


def test_a_full_database_is_emptied(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.read()
    machine.read("0.jpg")
    monkeypatch.setattr(memory, "_MOST", 1)
    machine.read()
    assert machine.reads == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from include.datasets.checking import known_files as memory
from include.datasets.checking.images import ImageFacts, ImageRules

memory._BATCH = 2
memory.read_image = lambda path, name, rules: ImageFacts("00" * 32, 1, 1)
with memory.open_known_files(Path(sys.argv[1]) / "checked.sqlite3") as files:
    for number in range(5):
        path = Path(sys.argv[1]) / f"{number}.png"
        path.write_bytes(b"x")
        files.read_image(path, path.name, ImageRules())
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_check_keeps_the_entries_that_it_had_written(machine: Machine, tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert process.returncode == -9
    known = 0
    with open_known_files(machine.file) as files:
        for number in range(5):
            try:
                known += files.read_image(tmp_path / f"{number}.png", f"{number}.png", COLOUR).width
            except UnusableImage:
                continue
    assert known == 4

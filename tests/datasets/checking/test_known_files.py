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

ROOT = Path(__file__).parents[3]
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
def checking_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_an_image_is_read_once_for_each_way_of_reading_it(checking_machine: Machine, tmp_path: Path) -> None:
    facts = checking_machine.read()
    assert facts == read_really(checking_machine.image, "0.png", COLOUR)
    checking_machine.image.rename(tmp_path / "moved.png")
    checking_machine.image = tmp_path / "moved.png"
    assert checking_machine.read("another name.png") == facts
    assert checking_machine.reads == 1
    checking_machine.read("0.jpg")
    checking_machine.read(rules=ImageRules(for_classify=True))
    checking_machine.read(rules=ImageRules(channels=1))
    checking_machine.read(f"a name that is too long to repair the image {'!' * 200}.png")
    assert checking_machine.reads == 5


def test_labels_are_read_once_for_each_way_of_reading_them(checking_machine: Machine, tmp_path: Path) -> None:
    """All findings of the first reading are remembered, warnings included."""
    file = tmp_path / "0.txt"
    file.write_text("0 0.5 0.5 0.001 0.001\n1 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n")
    reads: list[str] = []

    def read(how: str) -> CheckedLabels:
        def check() -> CheckedLabels:
            reads.append(how)
            return check_labels(file, LabelRules("detect", 2), (40, 30))

        with open_known_files(checking_machine.file) as files:
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


def test_entries_of_an_older_version_are_read_again(checking_machine: Machine) -> None:
    checking_machine.read()
    with closing(sqlite3.connect(checking_machine.file)) as database, database:
        database.execute("UPDATE files SET found = '{}'")
    checking_machine.read()
    checking_machine.read()
    assert checking_machine.reads == 2


@pytest.mark.parametrize("change", ["replaced", "changed in place"])
def test_a_changed_image_is_read_again(change: str, checking_machine: Machine) -> None:
    before = checking_machine.read()
    if change == "replaced":
        checking_machine.image.unlink()
    Image.new("RGB", (50, 30), "red").save(checking_machine.image)
    after = checking_machine.read()
    assert (before.width, after.width, checking_machine.reads) == (40, 50, 2)


def test_a_broken_image_is_read_each_time(checking_machine: Machine) -> None:
    checking_machine.image.write_bytes(checking_machine.image.read_bytes()[:60])
    for _ in range(2):
        with pytest.raises(UnusableImage):
            checking_machine.read()
    assert checking_machine.reads == 2


def test_another_decoder_version_reads_every_file_again(
    checking_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking_machine.read()
    monkeypatch.setattr("PIL.__version__", "99")
    checking_machine.read()
    assert checking_machine.reads == 2


@pytest.mark.parametrize("content", [b"", b"no database" * 1000], ids=["empty", "no database"])
def test_a_damaged_database_costs_only_time(content: bytes, checking_machine: Machine) -> None:
    checking_machine.file.write_bytes(content)
    checking_machine.read()
    checking_machine.read()
    checking_machine.read()
    assert checking_machine.reads <= 2


def test_an_unwritable_folder_costs_only_time(checking_machine: Machine) -> None:
    checking_machine.file = checking_machine.file.parent / "missing" / "checked.sqlite3"
    assert checking_machine.read() == checking_machine.read()


def test_a_full_database_is_emptied(checking_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    checking_machine.read()
    checking_machine.read("0.jpg")
    monkeypatch.setattr(memory, "_MOST", 1)
    checking_machine.read()
    assert checking_machine.reads == 3


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


def test_a_killed_check_keeps_the_entries_that_it_had_written(
    checking_machine: Machine, tmp_path: Path
) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert process.returncode == -9
    known = 0
    with open_known_files(checking_machine.file) as files:
        for number in range(5):
            try:
                known += files.read_image(tmp_path / f"{number}.png", f"{number}.png", COLOUR).width
            except UnusableImage:
                continue
    assert known == 4

"""Any checkpoint is loaded as data or refused with a reason, and nothing in it is executed."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

from include.training.contract import UnreadableCheckpoint
from include.training.loading import load_inspected
from include.training.run import train
from tests.fuzz.conftest import Fuzz
from tests.support.fuzz import strategies
from tests.support.tiny_models import architecture
from tests.support.tiny_trainings import Epochs, request

_FORGED = [
    b"cos\nsystem\nX\x0e\0\0\0touch executed\x85R0",
    b"cposix\nsystem\nX\x0e\0\0\0touch executed\x85R0",
    b"cbuiltins\neval\nX\x01\0\0\x001\x85R0",
    b"cbuiltins\ngetattr\ncbuiltins\nobject\nX\x0e\0\0\0__subclasses__\x86R0",
    b"cimportlib\nimport_module\nX\x02\0\0\0os\x85R0",
    b"ccProfile\nrun\nX\x01\0\0\x001\x85R0",
    b"ctorch.hub\nload\nX\x03\0\0\0a/b\x85R0",
    b"cultralytics.nn.distill_model\nDistillationModel\nX\x12\0\0\0http://127.0.0.1:1/\x85R0",
    b"cultralytics.nn.modules.block\nTorchVision\nX\x01\0\0\0a\x85R0",
    b"cultralytics.nn.modules.conv\nConv\nM\xff\xffM\xff\xff\x86R0",
    b"ctorch.nn.modules.conv\nConv2d\n)\x81}b0",
    b"ctorch\nzeros\nJ\xff\xff\xff\x7f\x85R0",
    b"ctorch\nFloatStorage\nJ\xff\xff\xff\x7f\x85R0",
    b"ccollections\nOrderedDict\n]\x85R0",
    b"ccopyreg\n_reconstructor\ncos\nsystem\ncbuiltins\nobject\nN\x87R0",
    b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ\xff\xff\xff\x7ftQ0",
    b"(ios\nsystem\n0",
    b"(cos\nsystem\nX\x01\0\0\x001o0",
    b"\x82\x01",
    b"\x93",
    b"\x8b\xff\xff\xff\x7f",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"r\xff\xff\xff\x7f",
    b"j\xff\xff\xff\x7f",
    b"}(" * 500,
    b"]q\x00h\x00a0",
    b"2" * 1000,
    b"0",
    b"1",
    b"b",
    b".",
]
"""Hostile pickle instructions: calls, memory, depth, and invalid order."""


@pytest.fixture(scope="module")
def trained_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    model = architecture(folder, "classify")
    return Path(train(request("classify", folder, epochs=1, model=model), Epochs()).last.path)


def _parts(checkpoint: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return the pickle and the storages of a checkpoint."""
    with zipfile.ZipFile(checkpoint) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    return entries["data.pkl"], {name: entries[name] for name in entries if name.startswith("data/")}


def _assemble(path: Path, pickle: bytes, storages: dict[str, bytes]) -> None:
    """Write an archive with the same code as torch.save, so that only the archive's content can be wrong."""
    writer = torch._C.PyTorchFileWriter(str(path))
    writer.write_record("data.pkl", pickle, len(pickle))
    writer.write_record("byteorder", b"little", 6)
    for name, content in storages.items():
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()


@st.composite
def _pickles(draw: st.DrawFn, pickle: bytes, places: list[int]) -> bytes:
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(places))
        cut = draw(st.sampled_from([0, 0, 1, 2, 5]))
        pickle = (
            pickle[:place] + draw(st.sampled_from(_FORGED) | st.binary(max_size=4)) + pickle[place + cut :]
        )
    return pickle


def _loads(path: Path) -> bool:
    try:
        load_inspected(path)
    except UnreadableCheckpoint:
        return False
    return True


def test_any_forged_pickle_is_loaded_or_refused(fuzz: Fuzz, trained_file: Path, tmp_path: Path) -> None:
    pickle, storages = _parts(trained_file)
    places = [place for _, _, place in pickletools.genops(pickle) if place is not None]
    path = tmp_path / "forged.pt"
    fuzz(
        _pickles(pickle, places),
        lambda forged: _assemble(path, forged, storages),
        lambda: _loads(path),
        tmp_path,
    )
    assert [file.name for file in tmp_path.iterdir()] == ["forged.pt"]


def test_any_damaged_checkpoint_is_loaded_or_refused(fuzz: Fuzz, trained_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    content = trained_file.read_bytes()
    ends = st.builds(
        lambda head, tail: head + tail, strategies.corrupted(content[:4096]), st.just(content[4096:])
    )
    tails = st.builds(
        lambda head, tail: head + tail, st.just(content[:-4096]), strategies.corrupted(content[-4096:])
    )
    fuzz(ends | tails | strategies.corrupted(content), path.write_bytes, lambda: _loads(path), tmp_path)

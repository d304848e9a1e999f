"""A file is accepted only if it cannot run code, and if loading it needs little more memory than its size."""

from __future__ import annotations

import io
import json
import math
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.checkpoints.inspection.architecture import MAX_CLASSES
from include.checkpoints.inspection.errors import ForeignCode, InspectionError, TooLarge
from include.checkpoints.inspection.inspect import LocalSource, inspect_file, judge_source
from include.checkpoints.inspection.unpickler import MAX_OBJECTS
from tests.support import crafted_checkpoints as craft
from tests.support.crafted_checkpoints import (
    ARCHITECTURE,
    Raw,
    call,
    crafted,
    layer,
    name,
    new,
    pickled,
    tensor,
    value,
)
from tests.support.crafted_layouts import LAYOUTS, OTHER_FORMATS

ROOT = Path(__file__).parents[3]

Payload = Callable[[Path], Raw]


def _python(proof: Path) -> str:
    return f"import pathlib; pathlib.Path({str(proof)!r}).touch()"


def _chain(proof: Path) -> Raw:
    """Reach os.system through other functions, without naming it."""
    module = call("importlib.import_module", "os")
    system = call("_operator.getitem", call("builtins.vars", module), "system")
    return Raw(system + value((f"touch {proof}",)) + b"R")


def _by_getattr(proof: Path) -> Raw:
    system = call("builtins.getattr", call("importlib.import_module", "os"), "system")
    return Raw(system + value((f"touch {proof}",)) + b"R")


def _by_stack(proof: Path) -> Raw:
    return Raw(value("os") + value("system") + b"\x93" + value((f"touch {proof}",)) + b"R")


def _memoised(proof: Path) -> Raw:
    """Name os.system first, and call it much later."""
    return Raw(
        name("os.system") + b"q\x000" + value([1, 2, 3]) + b"0h\x00" + value((f"touch {proof}",)) + b"R"
    )


RUNS: dict[str, Payload] = {
    "os.system": lambda proof: call("os.system", f"touch {proof}"),
    "posix.system": lambda proof: call("posix.system", f"touch {proof}"),
    "os.mknod": lambda proof: call("os.mknod", str(proof)),
    "os.open": lambda proof: call("os.open", str(proof), 65),
    "subprocess.call": lambda proof: call("subprocess.call", ["touch", str(proof)]),
    "subprocess.getoutput": lambda proof: call("subprocess.getoutput", f"touch {proof}"),
    "eval": lambda proof: call("builtins.eval", f"__import__('os').system('touch {proof}')"),
    "exec": lambda proof: call("builtins.exec", _python(proof)),
    "exec of Python 2": lambda proof: call("__builtin__.exec", _python(proof)),
    "open": lambda proof: call("builtins.open", str(proof), "w"),
    "io.open": lambda proof: call("io.open", str(proof), "w"),
    "cProfile.run": lambda proof: call("cProfile.run", _python(proof)),
    "cProfile.runctx": lambda proof: call("cProfile.runctx", _python(proof), {}, {}),
    "profile.run": lambda proof: call("profile.run", _python(proof)),
    "timeit.timeit": lambda proof: call(
        "timeit.timeit", _python(proof), "pass", name("time.perf_counter"), 1
    ),
    "shutil.copyfile": lambda proof: call("shutil.copyfile", "/dev/null", str(proof)),
    "logging.FileHandler": lambda proof: call("logging.FileHandler", str(proof)),
    "importlib, vars, getitem": _chain,
    "importlib, getattr": _by_getattr,
    "INST": lambda proof: Raw(b"(" + value(f"touch {proof}") + b"ios\nsystem\n"),
    "OBJ": lambda proof: Raw(b"(" + name("os.system") + value(f"touch {proof}") + b"o"),
    "STACK_GLOBAL": _by_stack,
    "a name in the memo": _memoised,
    "in an attribute of the model": lambda proof: craft.checkpoint(
        model=craft.model(note=call("os.system", f"touch {proof}"))
    ),
}
"""Payloads that run if a pickle is loaded with Python's own unpickler."""

MODEL = "ultralytics.nn.tasks.DetectionModel"

CODE: dict[str, Raw] = {
    "a class in the place of a method": craft.checkpoint(
        model=craft.model(float=name("torch.nn.modules.linear.Identity"))
    ),
    "a value in the place of a method": craft.checkpoint(model=craft.model(to=None)),
    "another forward": craft.checkpoint(model=craft.model(forward=1)),
    "classes among the values of a layer": craft.checkpoint(
        model=craft.model(note=[name("torch.nn.modules.linear.Identity")])
    ),
    "a layer that counts its layers again": craft.checkpoint(
        note=layer("torch.nn.modules.rnn.LSTM", all_weights=[[0]], num_layers=2**40)
    ),
    "a model that fetches": call(
        "ultralytics.nn.distill_model.DistillationModel", "http://127.0.0.1:1/x.pt", None
    ),
    "a layer that fetches": call("ultralytics.nn.modules.block.TorchVision", "resnet18", "DEFAULT"),
    "a model made by its constructor": call(MODEL, "/etc/hostname"),
    "a layer made by its constructor": call("torch.nn.modules.linear.Linear", 10**9, 10**9),
    "a constructor with arguments by NEWOBJ": Raw(name(MODEL) + value(("x",)) + b"\x81" + value({}) + b"b"),
    "torch.hub": call("torch.hub.load", "somebody/something", "model"),
    "torch.load": call("torch.serialization.load", "x.pt"),
    "a pickle within": call("torch.storage._load_from_bytes", "…"),
    "Ultralytics' own loader": call("ultralytics.nn.tasks.load_checkpoint", "http://127.0.0.1:1/x.pt"),
    "Ultralytics' download": call("ultralytics.utils.downloads.safe_download", "http://127.0.0.1:1/x"),
    "an allocation": call("torch.zeros", 10**12),
    "an allocation by a class": call("torch.FloatTensor", 10**12),
    "NumPy's": call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), (10**12,), "b"),
    "an array of bytes": call("builtins.bytearray", 10**12),
    "a tensor of another device": call("torch._utils._rebuild_device_tensor_from_numpy", 1, 2, 3, 4),
    "a meta tensor": call("torch._utils._rebuild_meta_tensor_no_storage", 1, 2, 3, 4),
    "a subclass of tensors": call("torch._tensor._rebuild_from_type_v2", name("os.system"), 1, (), {}),
    "no function called": Raw(value("os.system") + value(("true",)) + b"R"),
    "a namespace called with a name": call("ultralytics.utils.IterableSimpleNamespace", "os.system"),
    "a path called with a function": call("pathlib.PosixPath", name("builtins.set")),
    "getattr of a name with underscores": call(
        "builtins.getattr", name("ultralytics.nn.modules.head.Detect"), "__init__"
    ),
    "getattr of any object": call("builtins.getattr", name("collections.OrderedDict"), "fromkeys"),
    "a set of functions": call("builtins.set", [name("builtins.set")]),
    "an object changed twice": Raw(new(MODEL, {"a": 1}) + value({"b": 2}) + b"b"),
    "an object of a class with a state of two": Raw(
        name(MODEL) + b")\x81" + value(({}, {"__class__": 1})) + b"b"
    ),
    "a class replaced": new(MODEL, {"__class__": name("builtins.set")}),
    "an attribute of a dictionary replaced": Raw(call("collections.OrderedDict") + value({"keys": 1}) + b"b"),
    "something outside referred to": Raw(value(("module", name(MODEL), "0", "cpu", 1)) + b"Q"),
    "something outside referred to by name": Raw(b"Pstorage\n"),
    "an extension": Raw(b"\x82\x01"),
    "a buffer outside": Raw(b"\x97"),
    "hooks": craft.checkpoint(
        model=craft.model(_forward_hooks=Raw(b"}" + value(0) + name("builtins.set") + b"s"))
    ),
    "hooks before": craft.checkpoint(model=craft.model(_forward_pre_hooks={0: "builtins.eval"})),
    "a hook of another class": craft.checkpoint(
        model=craft.model(_forward_hooks={0: new("torch.nn.modules.linear.Identity", craft.PARTS)})
    ),
    "an activation": craft.checkpoint(
        model=craft.model(yaml=ARCHITECTURE | {"activation": "__import__('os').system('true')"})
    ),
    "an activation with a call in it": craft.checkpoint(
        model=craft.model(yaml=ARCHITECTURE | {"activation": "nn.SiLU(exec('1'))"})
    ),
    "a layer that is a function": craft.checkpoint(
        model=craft.model(yaml=ARCHITECTURE | {"head": [[-1, 1, "load_checkpoint", ["x.pt"]]]})
    ),
    "a layer of torchvision": craft.checkpoint(
        model=craft.model(yaml=ARCHITECTURE | {"head": [[-1, 1, "TorchVision", [64, "resnet18", "DEFAULT"]]]})
    ),
}
"""Contents that would run code, download something or exhaust memory in PyTorch or Ultralytics."""


def _nested(depth: int) -> Raw:
    return Raw(b"]" * depth + b"a" * (depth - 1))


def _doubled(times: int) -> Raw:
    """Return a tuple of two tuples of two tuples and so on; each tuple is stored only once."""
    return Raw(value(()) + b"".join(b"q%ch%c\x86" % (at, at) for at in range(times)))


def _rows(*row: Any) -> Raw:
    return craft.checkpoint(model=craft.model(yaml=ARCHITECTURE | {"backbone": [list(row)]}))


def _described(**changes: Any) -> Raw:
    return craft.checkpoint(model=craft.model(yaml=ARCHITECTURE | changes))


UNFIT: dict[str, Raw] = {
    "heads that multiply a list": craft.checkpoint(
        model=craft.model(note=layer("ultralytics.nn.modules.block.AAttn", head_dim=[0], num_heads=2**40))
    ),
    "a layer that makes images three thousand times as large": craft.checkpoint(
        model=craft.model(note=layer("torch.nn.modules.upsampling.Upsample", scale_factor=3000.0, size=None))
    ),
    "a distillation of a thousand layers": craft.checkpoint(
        model=craft.model(path="ultralytics.nn.distill_model.DistillationModel", feats_idx=[0] * 1000)
    ),
    "more numbers than are stored": craft.checkpoint(note=tensor(10**12, items=10**12)),
    "a tensor beyond its numbers": craft.checkpoint(note=tensor(200, items=108)),
    "a tensor that repeats one number": craft.checkpoint(
        note=tensor(10**6, 10**6, items=108, strides=(0, 0))
    ),
    "a tensor that begins beyond": craft.checkpoint(note=tensor(1, items=108, offset=108)),
    "a thousand tensors of the same numbers": craft.checkpoint(note=[tensor(108) for _ in range(1000)]),
    "numbers of no entry": craft.checkpoint(note=tensor(1, key="7")),
    "a key that leads elsewhere": craft.checkpoint(note=tensor(1, key="../../x")),
    "a text longer than the file": Raw(b"X\xff\xff\xff\x7f"),
    "a number of 2,000 bits": Raw(b"\x8a\xff" + b"\x7f" * 255),
    "a number of a gigabyte": Raw(b"\x8b\xff\xff\xff\x7f"),
    "bytes of a gigabyte": Raw(b"B\xff\xff\xff\x7f"),
    "a memo of a billion": Raw(value(1) + b"r\xff\xff\xff\x3f"),
    "an empty memo": Raw(b"h\x05"),
    "a stack below its bottom": Raw(b"aaaa"),
    "a mark without an end": Raw(b"((("),
    "lists a thousand deep": craft.checkpoint(note=_nested(1000)),
    "a list in itself": craft.checkpoint(note=Raw(b"]q\x00h\x00a")),
    "tuples that double": craft.checkpoint(note=_doubled(60)),
    "a tuple as a key": craft.checkpoint(note=Raw(b"}" + value((1, 2)) + value(1) + b"s")),
    "a class with a long name": craft.checkpoint(model=craft.model(names={0: "x" * 100_000})),
    "no names": craft.checkpoint(model=craft.model(names=3)),
    "a billion repeats": _rows(-1, 10**9, "Conv", [16]),
    "a billion channels": _rows(-1, 1, "Conv", [10**9]),
    "a billion channels, in words": _rows(-1, 1, "Conv", ["1_000_000_000"]),
    "a billion channels, in hexadecimal": _rows(-1, 1, "Conv", ["0x3b9aca00"]),
    "infinitely many": _rows(-1, 1, "Conv", [math.inf]),
    "an image a million times larger": _rows(-1, 1, "nn.Upsample", [None, 10**6, "nearest"]),
    "an image 8,000 times larger": _rows(-1, 1, "nn.UpsamplingNearest2d", [None, 8000]),
    "an image 8,000 times larger, smoothly": _rows(-1, 1, "nn.UpsamplingBilinear2d", [None, 8000]),
    "half a row": _rows(-1, 1, "Conv"),
    "five hundred layers and more": _described(backbone=[[-1, 1, "Conv", [16]]] * 501),
    "two billion classes in the description": _described(nc=2_000_000_000),
    "a width of a million": _described(scales={"n": [1, 10**6, 1024]}),
    "keypoints without an end": _described(kpt_shape=[10**9, 3]),
    "no head": _described(head=None),
    "no description": craft.checkpoint(model=craft.model(yaml=None)),
    "a model of another task": craft.checkpoint(model=craft.model(path="ultralytics.nn.tasks.WorldModel")),
    "a layer for a model": craft.checkpoint(model=new("torch.nn.modules.linear.Linear", {})),
    "no model": craft.checkpoint(model=None),
    "a model where the arguments are": craft.checkpoint(train_args={"task": craft.model()}),
    "arguments that are none": craft.checkpoint(train_args=[1]),
    "epochs that are no number": craft.checkpoint(train_args={"epochs": "999"}),
    "an epoch that is no number": craft.checkpoint(epoch="last"),
    "a fitness that is no number": craft.checkpoint(best_fitness=["0.5"]),
    "a list": value([1, 2]),
    "a layer without parts": craft.checkpoint(model=new(MODEL, {"yaml": ARCHITECTURE})),
    "a layer whose weights are texts": craft.checkpoint(model=craft.model(_parameters={"weight": "0.5"})),
}
"""Contents that are not a checkpoint, or that would need much more memory than their size."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "best.pt"


def _load_as_python_does(payload: Raw) -> None:
    class Anything:
        def __init__(self, *_: Any) -> None: ...
        def __setstate__(self, _: Any) -> None: ...

    class Careless(pickle.Unpickler):  # noqa: S301 - as careless programs do
        def find_class(self, module: str, name: str) -> Any:
            ours = module.partition(".")[0] in {"torch", "ultralytics"}
            return Anything if ours else super().find_class(module, name)

        def persistent_load(self, pid: Any) -> Any:
            return None

    Careless(io.BytesIO(pickled(payload))).load()


@pytest.mark.parametrize("payload", RUNS.values(), ids=RUNS)
def test_a_payload_that_another_loader_would_run_is_refused_and_does_not_run(
    payload: Payload, file: Path, tmp_path: Path
) -> None:
    proof = tmp_path / "it-ran"
    file.write_bytes(crafted(payload(proof)))
    with pytest.raises(ForeignCode, match="may be harmful"):
        inspect_file(file)
    assert not proof.exists()
    _load_as_python_does(payload(proof))
    assert proof.exists(), "the payload has no effect in any loader, so this test proves nothing"


@pytest.mark.parametrize("content", CODE.values(), ids=CODE)
def test_content_that_would_run_code_in_a_library_is_refused(content: Raw, file: Path) -> None:
    file.write_bytes(crafted(content))
    with pytest.raises(ForeignCode):
        inspect_file(file)


@pytest.mark.parametrize("content", UNFIT.values(), ids=UNFIT)
def test_content_that_would_exhaust_memory_is_refused_using_little_memory(content: Raw, file: Path) -> None:
    data = crafted(content)
    file.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(InspectionError):
            inspect_file(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4e6 + 100 * len(data)


def test_the_number_of_objects_is_limited(file: Path) -> None:
    many = Raw(b"](" + b"}" * (MAX_OBJECTS + 1) + b"e")
    file.write_bytes(crafted(craft.checkpoint(note=many)))
    with pytest.raises(TooLarge, match="more than 500,000 objects"):
        inspect_file(file)


def test_the_number_of_classes_is_limited(file: Path) -> None:
    many = Raw(b"](" + b"N" * (MAX_CLASSES + 1) + b"e")
    file.write_bytes(crafted(craft.checkpoint(model=craft.model(names=many))))
    with pytest.raises(TooLarge, match="more than 100,000 classes"):
        inspect_file(file)


@pytest.mark.parametrize("data", [*LAYOUTS.values(), *OTHER_FORMATS.values()], ids=[*LAYOUTS, *OTHER_FORMATS])
def test_a_file_without_the_layout_of_a_checkpoint_is_refused(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    with pytest.raises(InspectionError):
        inspect_file(file)


def test_a_good_checkpoint_passes_and_is_described(file: Path) -> None:
    file.write_bytes(crafted())
    contents = inspect_file(file)
    assert (contents.task, contents.classes, contents.epoch, contents.resumable) == (
        "detect",
        ("box", "arrow"),
        None,
        False,
    )


def test_classes_are_listed_by_number(file: Path) -> None:
    """A YAML may list its classes as 0, 1, 10, 2; Ultralytics keeps this order."""
    file.write_bytes(crafted(model=craft.model(names={1: "arrow", 0: "box"})))
    assert inspect_file(file).classes == ("box", "arrow")


def test_the_hooks_of_a_distilled_model_pass(file: Path) -> None:
    hook = new("ultralytics.nn.distill_model.FeatureHook", {"feat_dict": {}, "idx": 0})
    file.write_bytes(crafted(model=craft.model(_forward_hooks={7: hook})))
    assert inspect_file(file).task == "detect"


def test_a_zip64_archive_passes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = crafted()
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # instead of 4 GiB
    assert len(crafted()) > len(narrow)
    file.write_bytes(crafted())
    assert inspect_file(file).task == "detect"


def test_a_truncated_checkpoint_is_refused(file: Path) -> None:
    whole = crafted()
    for length in range(0, len(whole), 29):
        file.write_bytes(whole[:length])
        with pytest.raises(InspectionError):
            inspect_file(file)


@pytest.mark.parametrize("data", OTHER_FORMATS.values(), ids=OTHER_FORMATS)
def test_a_file_is_harmless_only_if_no_loader_would_run_it(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    with file.open("rb") as opened, pytest.raises(InspectionError):
        judge_source(LocalSource(opened))
    file.write_bytes(b"the weights, say")
    with file.open("rb") as opened:
        assert "not a checkpoint" in (judge_source(LocalSource(opened)) or "")


def test_the_command_line_describes_files_without_pytorch(tmp_path: Path) -> None:
    good, bad = tmp_path / "best.pt", tmp_path / "bad.pt"
    good.write_bytes(crafted())
    bad.write_bytes(crafted(call("os.system", "true")))
    lines = "import sys; sys.modules['torch'] = sys.modules['ultralytics'] = None\n"
    lines += "from include.checkpoints.inspection.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", lines, str(good), str(bad), str(tmp_path / "absent.pt")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert json.loads(done.stdout)["task"] == "detect"
    assert f"error: {bad} names os.system" in done.stderr
    assert "absent.pt" in done.stderr

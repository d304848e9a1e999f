"""Derive architectures.json and arguments.json from Ultralytics: `python -m include.training.derive_tables`.

Architectures are the model YAMLs that Ultralytics ships; pretrained weights are the files that it publishes.
The names of arguments come from its default.yaml, and their kinds from the lists that Ultralytics uses to
check them. Run this again when the pinned version changes; tests compare the files with the installed
version.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.training import architectures, arguments
from include.training.contract import MODEL_SUFFIX
from include.training.environment import isolate_ultralytics

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

_OTHER_TRAINERS = re.compile(r"-world|yoloe|rtdetr")
"""Names of models whose trainers this project does not use (YOLOWorld, YOLOE, RTDETR)."""

_OF_YOLO = re.compile(r"yolo(v\d|\d)")
"""Names of YOLO models. The other published files are YOLO-NAS, SAM and similar segmenters, and text
encoders."""

_SECTIONS = {"Train settings", "Segmentation", "Classification", "Val/Test settings", "Hyperparameters"}

_READ_IN_TRAINING_TOO = {"classes", "agnostic_nms", "augment"}
"""Arguments listed under Predict, but read by datasets and validators."""

_EITHER_SIGN = {"batch", "degrees", "shear"}
"""Numbers that may be negative: batch=-1 lets Ultralytics choose, and the others are angles."""

_CHOICES = {
    "amp": ["fp16", "bf16", "fp32"],
    "auto_augment": ["randaugment", "autoaugment", "augmix"],
    "cache": ["ram", "disk"],
    "compile": ["default", "reduce-overhead", "max-autotune-no-cudagraphs"],
    "copy_paste_mode": ["flip", "mixup"],
    "optimizer": ["auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp"],
    "split": ["train", "val", "test"],
}
"""Allowed words, which default.yaml lists only in its comments."""


def derive_architectures() -> dict[str, Any]:
    """Return the installed version's architectures and weights, in the form of architectures.json."""
    isolate_ultralytics()
    from ultralytics import __version__, cfg
    from ultralytics.utils import downloads

    models = Path(cfg.DEFAULT_CFG_PATH).parent / "models"
    release = inspect.signature(downloads.attempt_download_asset).parameters["release"].default
    weights = sorted(name for name in downloads.GITHUB_ASSETS_NAMES if name.endswith(".pt"))
    return {
        "ultralytics": __version__,
        "release": f"https://github.com/{downloads.GITHUB_ASSETS_REPO}/releases/download/{release}",
        "defaults": cfg.TASK2MODEL,
        "metrics": cfg.TASK2METRIC,
        "architectures": {
            path.stem: _describe_architecture(path) for path in sorted(models.glob("*/*.yaml"))
        },
        "pretrained": {name: _find_task_of_weights(name) for name in weights},
    }


def _describe_architecture(path: Path) -> dict[str, str | None]:
    """Return the task of an architecture (None if we do not train it) and the letters of its sizes."""
    import yaml
    from ultralytics.nn.tasks import guess_model_task

    description = yaml.safe_load(path.read_text(encoding="utf-8"))
    task = None if _OTHER_TRAINERS.search(path.stem) else guess_model_task(description)
    return {"task": task, "sizes": "".join(description.get("scales", ()))}


def _find_task_of_weights(name: str) -> Task | None:
    if not _OF_YOLO.match(name) or _OTHER_TRAINERS.search(name):
        return None
    return next((task for task, suffix in MODEL_SUFFIX.items() if suffix and suffix in name), "detect")


def derive_arguments() -> dict[str, Any]:
    """Return the installed version's training arguments, in the form of arguments.json."""
    isolate_ultralytics()
    import yaml
    from ultralytics import __version__, cfg

    text = Path(cfg.DEFAULT_CFG_PATH).read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    table = {
        name: _describe_argument(name, defaults[name], types)
        for section, name, types in _parse_lines(text)
        if section in _SECTIONS or name in _READ_IN_TRAINING_TOO
    }
    return {"ultralytics": __version__, "arguments": dict(sorted(table.items()))}


def _parse_lines(text: str) -> list[tuple[str, str, list[str]]]:
    """Split default.yaml into (section, name, types named in the comment)."""
    section, found = "", []
    for line in text.splitlines():
        if heading := re.match(r"# (.+?) -{5,}$|# (\w+)$", line):
            section = heading[1] or heading[2]
        elif argument := re.match(r"(\w+):.*?# \(([^)]*)\)", line):
            types = re.findall(r"bool|int|float|str|list|tuple", re.sub(r"list\[\w+\]", "list", argument[2]))
            found.append((section, argument[1], types))
    return found


def _describe_argument(name: str, default: Any, types: list[str]) -> dict[str, Any]:
    from ultralytics import cfg

    checked = {
        "float": cfg.CFG_FLOAT_KEYS,
        "int": cfg.CFG_INT_KEYS,
        "bool": cfg.CFG_BOOL_KEYS,
        "str": cfg.CFG_STR_KEYS,
    }
    if name in cfg.CFG_FRACTION_KEYS or name == "scale":
        kinds = ["fraction", *(kind for kind in types if kind in {"int", "list", "tuple"})]
    else:
        kinds = next(([kind] for kind, names in checked.items() if name in names), types)
    argument: dict[str, Any] = {"kinds": list(dict.fromkeys(kind.replace("tuple", "list") for kind in kinds))}
    argument["optional"] = default is None or name == "auto_augment"  # null is not the default, but allowed
    if name in cfg.CFG_INT_MIN:
        argument["minimum"] = cfg.CFG_INT_MIN[name]
    elif kinds == ["float"] and name not in _EITHER_SIGN:
        argument["minimum"] = 0  # Ultralytics accepts negative gains and durations
    if name == "quantize":
        argument["choices"] = sorted(alias for alias in cfg.QUANTIZE_ALIASES if not alias.isdigit())
    elif name in _CHOICES:
        argument["choices"] = _CHOICES[name]
    return argument


if __name__ == "__main__":
    derived_tables = {architectures.TABLE: derive_architectures(), arguments.TABLE: derive_arguments()}
    for table, derived in derived_tables.items():
        table.write_text(json.dumps(derived, indent=1) + "\n", encoding="utf-8")

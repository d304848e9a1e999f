"""Imports modules in the process that tasks are forked from, so that no task has to import them."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import include
import include.tasks
from include.training.environment import isolate_ultralytics

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

LIBRARIES = (
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.postgres.hooks.postgres",
    "alembic",
)
"""Libraries that most tasks import."""

TRAINING_LIBRARIES = (
    "torch._dynamo",
    "ultralytics.engine.trainer",
    "ultralytics.models.yolo",
    "matplotlib.pyplot",
)
"""Libraries that a training run imports.

Deterministic algorithms load torch's compiler (torch._dynamo), even if they do not use it. Ultralytics draws
the labels with matplotlib. Ultralytics also imports polars, which must not be listed here: polars' threads do
not survive a fork.
"""

OWN = (
    *(f"{include.tasks.__name__}.{found.name}" for found in pkgutil.iter_modules(include.tasks.__path__)),
    "include.attempt.attempt",
    "include.deployment.s3_hook",
)
"""The project's modules that tasks import."""

OWN_TRAINING = ("include.training.run", "include.training.trainers")
"""The project's modules that a training run imports; they import torch."""


class OwnModules:
    """The project's modules, imported before tasks start, but dropped once a file of the project is edited.

    After an edit, each task imports the modules itself, so that edits take effect without a restart.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._files = _list_files()
        before = set(sys.modules)
        for name in names:
            preload(name)
        self._names = [name for name in sys.modules if name.startswith("include.") and name not in before]

    def forget_if_edited(self) -> None:
        """Drop the modules from this process if a file was changed, added or removed since the import."""
        if not self._names or _list_files() == self._files:
            return
        log.info("The project was edited; from now on, each task imports the project's modules itself.")
        for name in self._names:
            sys.modules.pop(name, None)
            package, _, module = name.rpartition(".")
            if package in sys.modules:
                vars(sys.modules[package]).pop(module, None)  # `from package import module` would find it
        self._names = []


def import_ahead(*, with_torch: bool) -> OwnModules:
    """Import what tasks need: our modules, libraries, and botocore's model of the S3 API."""
    isolate_ultralytics()
    for library in (*LIBRARIES, *TRAINING_LIBRARIES) if with_torch else LIBRARIES:
        preload(library)
    own = OwnModules((*OWN, *OWN_TRAINING) if with_torch else OWN)
    try:
        from include.deployment.s3_hook import load_description

        load_description()
    except Exception:
        log.warning("botocore's model of the S3 API could not be loaded before tasks start.", exc_info=True)
    return own


def preload(module: str) -> None:
    """Import a module. If the import fails, a task that needs the module will log the reason."""
    try:
        importlib.import_module(module)
    except Exception:
        log.warning("%s could not be imported before tasks start.", module, exc_info=True)


def _list_files() -> set[tuple[str, int, int]]:
    """Return path, size in bytes and modification time in nanoseconds of every file of the project.

    Links that lead nowhere, which some editors create as locks, and files that have just been removed are
    omitted.
    """
    found = set()
    for folder, folders, names in os.walk(Path(include.__path__[0])):
        folders[:] = [each for each in folders if each != "__pycache__"]
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - called hundreds of times before each task
            with suppress(OSError):
                status = os.stat(path)  # noqa: PTH116
                found.add((path, status.st_size, status.st_mtime_ns))
    return found

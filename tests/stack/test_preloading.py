"""Modules are imported before tasks need them; after the project is edited, tasks import them again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from include.stack.airflow import REPOSITORY

EDIT = """
import pathlib, sys
from include.stack.preloading import OwnModules

import include.training.contract
own = OwnModules(["include.jobs.spec"])
own.forget_if_edited()
assert "include.jobs.spec" in sys.modules
with pathlib.Path(sys.modules["include.jobs.spec"].__file__).open("a") as file:
    file.write("EDITED = True")
own.forget_if_edited()
from include.jobs import spec
assert spec.EDITED
assert "include.training.contract" in sys.modules  # was imported before
"""

WITHOUT_TORCH = """
import os, sys, threading
from include.stack.preloading import OWN, import_ahead

for configuration in ({"AWS_PROFILE": "unknown"}, {}):
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update(configuration)
    import_ahead(with_torch=False)
    assert not set(OWN) - set(sys.modules)
    assert "torch" not in sys.modules
    assert threading.active_count() == 1  # a fork has only one
"""
"""A program that preloads with an invalid AWS configuration, and then with a valid one."""


def run(program: str, folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True)


def test_modules_are_imported_again_by_each_task_after_an_edit(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "include", tmp_path / "include")
    run(EDIT, tmp_path)


def test_a_lock_of_an_editor_ends_no_worker(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "include", tmp_path / "include")
    (tmp_path / "include" / "jobs" / ".#spec.py").symlink_to("emacs@host.4711:1764489600")
    run(EDIT, tmp_path)


def test_on_a_machine_with_a_gpu_torch_is_not_imported_under_any_aws_configuration() -> None:
    run(WITHOUT_TORCH, REPOSITORY)

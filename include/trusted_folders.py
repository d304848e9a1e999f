"""Refuses a training run's folders if other accounts could have prepared them or can write to them.

A training run trusts its own folders: it resumes from states that it finds there, and passes the data in them
to Ultralytics. It does not start if another account could have prepared them, or if any account can replace
them. Only the run's own user and root are trusted. Whoever sets up the folders must judge two remaining
risks: the owner of a parent folder may replace them, and a group may have write access (as for Kubernetes'
fsGroup volumes, owned by root with mode 2775). On OpenShift, the user of a container varies, so containers
share files through group 0. No ordinary account belongs to that group. Therefore a user in group 0 trusts its
folders, regardless of their owner.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from include.errors import FinalError

_MOST_LINKS = 40
"""The kernel's limit on symbolic links in one path."""

REMEDY = "set TRAINING_ROOT to a folder of your own"


class UntrustedFolder(FinalError):
    """Another account of this machine could have prepared the folder; the message says what to do."""


def make_trusted_folder(path: Path) -> Path:
    """Create the folder and its parents, closed to other users unless a group shares the parent folder.

    Returns `path`. Raises UntrustedFolder if an existing folder cannot be trusted.
    """
    missing = []
    folder = path.absolute()
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    with _explain_errors(path, REMEDY):
        for folder in reversed(missing):
            # If another process has created the folder in the meantime, its owner is checked below.
            with suppress(FileExistsError):
                folder.mkdir(mode=_choose_mode(folder.parent.stat()))
    require_trusted_folder(path)
    return path


def require_trusted_folder(path: Path, remedy: str = REMEDY) -> None:
    """Raise UntrustedFolder if the folder is not trusted, or if every account can replace or write to it."""
    with _explain_errors(path, remedy):
        for step, container, found in _walk_to(path):
            _require_irreplaceable(step, container, found, path, remedy)
        folder = path.resolve()
        _require_own(folder, os.lstat(folder), remedy)


def _walk_to(path: Path) -> Iterator[tuple[Path, os.stat_result, os.stat_result]]:
    """Yield each folder and symbolic link that the kernel passes on the way to `path`.

    Each path is yielded with the status of its parent folder and its own status.
    """
    links = 0
    folder, pending = Path("/"), list(reversed(path.absolute().parts[1:]))
    while pending:
        part = pending.pop()
        if part == "..":
            folder = folder.parent
            continue
        step = folder / part
        found = os.lstat(step)
        yield step, os.lstat(folder), found
        if not stat.S_ISLNK(found.st_mode):
            folder = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise UntrustedFolder(f"{path} contains a loop of symbolic links; give the folder itself")
        target = step.readlink()
        folder = Path("/") if target.is_absolute() else folder
        pending += [part for part in reversed(target.parts) if part != "/"]


def _require_irreplaceable(
    step: Path, container: os.stat_result, found: os.stat_result, path: Path, remedy: str
) -> None:
    """Raise UntrustedFolder if any account can replace `step`, or if an untrusted account created it.

    An untrusted creator matters only in a folder that is open to all.
    """
    if container.st_mode & stat.S_IWOTH:
        if not container.st_mode & stat.S_ISVTX:
            raise UntrustedFolder(
                f"Every account of this machine can replace {path}: "
                f"{_describe(step.parent, container)} is open to all and not sticky; close it "
                f"(chmod o-w {step.parent}), or {remedy}"
            )
        if not _is_trusted(found):
            raise UntrustedFolder(
                f"{_describe(step, found)} was created by another account in a folder open to all, so "
                f"{path} is not trusted; remove it, or {remedy}"
            )


def _require_own(path: Path, found: os.stat_result, remedy: str) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise UntrustedFolder(f"{_describe(path, found)} is not a folder; remove it, or {remedy}")
    if not _is_trusted(found):
        raise UntrustedFolder(
            f"{_describe(path, found)} belongs to another account, which could have put anything in it; "
            f"remove it, or {remedy}"
        )
    if found.st_mode & stat.S_IWOTH:
        raise UntrustedFolder(
            f"Every account of this machine can write to {_describe(path, found)}; remove it, or empty and "
            f"close it (chmod o-w {path}), or {remedy}"
        )


@contextmanager
def _explain_errors(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_expected = isinstance(error, (PermissionError, FileNotFoundError, NotADirectoryError))
        if not is_expected and error.errno != errno.EROFS:
            raise
        raise UntrustedFolder(
            f"{path} cannot be used: {error.filename}: {error.strerror}; allow this user to use it, "
            f"or {remedy}"
        ) from error


def _is_trusted(found: os.stat_result) -> bool:
    """Return whether this user or root owns the file, or its group is 0 and this user is in group 0."""
    user = os.geteuid()
    if found.st_uid in {0, user}:
        return True
    return user != 0 and found.st_gid == 0 and 0 in {os.getegid(), *os.getgroups()}


def _choose_mode(parent: os.stat_result) -> int:
    """Return the mode for a new folder in `parent`.

    If the parent is deliberately shared with a group, the new folder is, too; otherwise it is private.
    """
    is_handed_down = parent.st_mode & stat.S_ISGID or parent.st_gid == os.getegid()
    is_shared = parent.st_mode & stat.S_IWGRP and not parent.st_mode & stat.S_IWOTH
    return 0o770 if is_shared and is_handed_down else 0o700


def _describe(path: Path, found: os.stat_result) -> str:
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = f"uid {found.st_uid}"
    return f"{path} (owner {owner}, mode {stat.S_IMODE(found.st_mode):04o})"

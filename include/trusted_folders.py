"""Folders in which no other account of this machine can put anything.

A training trusts its own folders: it continues from states that it finds there, and feeds the data that lie
there to Ultralytics. Where another account could have prepared them, or can replace them at any moment, it
must not begin. Trusted are this user and root. Whoever owns a folder decides on its group, so a folder that
its group may write to is accepted: Kubernetes' fsGroup volumes (root's, 2775) are of this kind. Containers
whose user varies (OpenShift) share their files by group 0, to which no ordinary account belongs; for them a
folder of group 0 is their own, whoever made it.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from include.errors import FinalError

_MOST_LINKS = 40
"""As in the kernel."""

REMEDY = "set TRAINING_ROOT to a folder of your own"


class UntrustedFolder(FinalError):
    """A folder that another account of this machine could have prepared, with a sentence of what to do."""


def make_trusted_folder(path: Path, remedy: str = REMEDY) -> Path:
    """Create the folder and those above it, closed to others unless they share the one they are made in.

    Returns `path`. Raises UntrustedFolder for one that is there already and is not to be trusted.
    """
    missing = []
    folder = path.absolute()
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    with _explain_errors(path, remedy):
        for each in reversed(missing):
            # Where another process is faster, whose it is is judged below.
            with suppress(FileExistsError):
                each.mkdir(mode=_choose_mode(each.parent.stat()))
    require_trusted_folder(path, remedy)
    return path


def require_trusted_folder(path: Path, remedy: str = REMEDY) -> None:
    """Raise UntrustedFolder unless the folder is ours, and nobody else can replace it or write into it."""
    with _explain_errors(path, remedy):
        for step, container, found in _walk_to(path):
            _require_irreplaceable(step, container, found, path, remedy)
        folder = path.resolve()
        _require_own(folder, os.lstat(folder), remedy)


def _walk_to(path: Path) -> Iterator[tuple[Path, os.stat_result, os.stat_result]]:
    """Yield each folder and symbolic link that the kernel passes on its way to `path`.

    With each comes the status of the folder that holds it, and its own.
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
            raise UntrustedFolder(f"{path} leads in a circle of symbolic links; give the folder itself")
        target = step.readlink()
        folder = Path("/") if target.is_absolute() else folder
        pending += [part for part in reversed(target.parts) if part != "/"]


def _require_irreplaceable(
    step: Path, container: os.stat_result, found: os.stat_result, path: Path, remedy: str
) -> None:
    """Refuse a folder that everybody may write to, unless it is sticky and what it holds is trusted."""
    if container.st_mode & stat.S_IWOTH:
        if not container.st_mode & stat.S_ISVTX:
            raise UntrustedFolder(
                f"Every account of this machine can replace {path}: "
                f"{_describe(step.parent, container)} is open to all and not sticky; close it "
                f"(chmod o-w {step.parent}), or {remedy}"
            )
        if not _is_trusted(found):
            raise UntrustedFolder(
                f"{_describe(step, found)} was made by another account where everybody can make one, so "
                f"{path} is not trusted; remove it, or {remedy}"
            )


def _require_own(path: Path, found: os.stat_result, remedy: str) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise UntrustedFolder(f"{_describe(path, found)} is not a folder; remove it, or {remedy}")
    if not _is_trusted(found):
        raise UntrustedFolder(
            f"{_describe(path, found)} belongs to another account, who could have put anything there; "
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
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise UntrustedFolder(
            f"{path} cannot be used: {error.filename}: {error.strerror}; allow this user to use it, "
            f"or {remedy}"
        ) from error


def _is_trusted(found: os.stat_result) -> bool:
    """Whether this user or root made it; for a container's user, also what belongs to group 0."""
    user = os.geteuid()
    if found.st_uid in {0, user}:
        return True
    return user != 0 and found.st_gid == 0 and 0 in {os.getegid(), *os.getgroups()}


def _choose_mode(parent: os.stat_result) -> int:
    """Return the mode of a folder that is made there.

    A group that shares the parent on purpose shares it too; anybody else does not.
    """
    handed_down = parent.st_mode & stat.S_ISGID or parent.st_gid == os.getegid()
    shared = parent.st_mode & stat.S_IWGRP and not parent.st_mode & stat.S_IWOTH
    return 0o770 if shared and handed_down else 0o700


def _describe(path: Path, found: os.stat_result) -> str:
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = f"uid {found.st_uid}"
    return f"{path} (owner {owner}, mode {stat.S_IMODE(found.st_mode):04o})"

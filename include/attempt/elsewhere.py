"""Errors that only this machine causes: they do not end a training run that another machine can resume.

All functions call `is_resumable` only after such an error. It returns whether S3 has a state of the training
run.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetNotHere
from include.deployment.settings import SettingRefused
from include.s3.errors import LocalDiskError
from include.training.contract import DeviceNotAvailable, DiskError, GpuLost, MachineUnusable, is_disk_error
from include.trusted_folders import UntrustedFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def retry_elsewhere(is_resumable: Callable[[], bool]) -> Iterator[None]:
    """Turn errors about this machine's settings, data or disk into MachineUnusable, which is retried.

    If the training run cannot be resumed, the original error is raised.
    """
    try:
        yield
    except (SettingRefused, UntrustedFolder, DatasetNotHere, DiskError, LocalDiskError, OSError) as error:
        if isinstance(error, OSError) and not is_disk_error(error):
            raise
        if not is_resumable():
            raise
        raise MachineUnusable(
            f"{error}. This task continues on another machine, or on this one once the problem is solved"
        ) from error


@contextmanager
def seek_device_elsewhere(is_resumable: Callable[[], bool]) -> Iterator[None]:
    """Turn DeviceNotAvailable into GpuLost if the training run can be resumed: it once had the device.

    Otherwise, DeviceNotAvailable is raised: perhaps no machine has the device.
    """
    try:
        yield
    except DeviceNotAvailable as error:
        if not is_resumable():
            raise
        raise GpuLost(
            f"{error}. This training run had this device before, so it continues on another machine"
        ) from error

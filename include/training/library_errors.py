"""Errors of Ultralytics and torch: formats them for a task's log, and recognizes some of them."""

from __future__ import annotations

import re
import textwrap
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from include.training.contract import DiskError, GpuLost, ProcessKilled

WRONG_INPUT = (ValueError, TypeError, LookupError, SyntaxError, FileNotFoundError, AssertionError)
"""Exceptions that Ultralytics raises for unsuitable data; other exceptions may be due to this machine."""

_WORKER_KILLED = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly$)")
"""PyTorch's message if a loader worker was killed. An exception in a worker has a different message."""

_NO_IMAGES = "No valid images found"
"""How Ultralytics' message begins if it could use no image of a split."""

_UNREADABLE = re.compile(
    r"Image Not Found (?P<image>.+)"
    r"|Semantic mask not found or unreadable: (?P<mask>.+)"
    r"|!_src\.empty\(\) in function 'cvtColor'"  # an image for classify
    r"|DataLoader worker [\s\S]*, in load_depth\n"
)
"""How Ultralytics and PyTorch report an image, mask or depth map that cannot be read during training. PyTorch
drops the error number of a worker's OSError."""

_NO_SHARED_MEMORY = re.compile(
    r"unable to allocate shared memory\(shm\)|shared memory segment /dev/shm/|failed to extend /dev/shm/"
)
"""How PyTorch, for a loader worker, and NCCL report that /dev/shm has no room."""

_GPU_FAILED = re.compile(
    r"(?:CUDA error: |Cuda failure (?:\d+ )?')"
    r"(?P<what>uncorrectable (?:ECC|NVLink) error|hardware stack error|unspecified launch failure"
    r"|Invalid access of peer GPU memory over nvlink or a hardware error|unknown error|initialization error"
    r"|CUDA-capable device\(s\) is/are busy or unavailable|no CUDA-capable device is detected)"
)
"""How PyTorch and NCCL quote CUDA's errors about a GPU that has failed, or that another program reserves.
CUDA's other errors, such as a failed assertion on the device, may be due to the data or to a program."""

_NOT_PINNED = "Pin memory thread exited unexpectedly"
"""PyTorch's message if a broken connection has ended the thread that prepares batches for a GPU."""


def format_error(error: BaseException) -> str:
    """Return the message of `error` as one line of at most 400 characters, without emoji."""
    text = remove_emoji(str(error) or type(error).__name__)
    return textwrap.shorten(text.replace(" .", "."), 400, placeholder=" …")


def remove_emoji(text: str) -> str:
    """Return `text` without emoji, with which Ultralytics begins many of its messages."""
    return "".join(c for c in text if unicodedata.category(c) != "So" and c != "\N{VARIATION SELECTOR-16}")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether GPU or host memory ran out.

    This reads the message, because torch and OpenCV share no exception class for this case.
    """
    words = (
        "out of memory",
        "status_alloc_failed",  # of cuBLAS and cuDNN
        # Ultralytics takes these two of cuDNN for a lack of memory, too.
        "cudnn_status_internal_error",
        "unable to find an engine",
    )
    return is_out_of_host_memory(error) or any(word in str(error).lower() for word in words)


def is_out_of_host_memory(error: BaseException) -> bool:
    """Return whether the machine's memory ran out, which its processes and the page cache share."""
    words = ("can't allocate memory", "cannot allocate memory", "insufficient memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def reports_killed_worker(error: BaseException) -> bool:
    """Return whether this is PyTorch's report of a killed loader worker.

    PyTorch's SIGCHLD handler raises this error wherever the main thread happens to be.
    """
    return isinstance(error, RuntimeError) and _WORKER_KILLED.match(str(error)) is not None


def reports_unreadable_images(error: BaseException) -> bool:
    """Return whether this is Ultralytics' report that it could use no image of a split, with its labels."""
    return isinstance(error, RuntimeError) and str(error).startswith(_NO_IMAGES)


def find_unreadable(error: BaseException) -> str | None:
    """Return a description of the file, if this is a report that a file could not be read during training."""
    found = _UNREADABLE.search(str(error))
    return found and (found["image"] or found["mask"] or "one of its files")


def find_machine_fault(error: BaseException) -> GpuLost | DiskError | None:
    """Return the error that says what is wrong with this machine, if that is the cause of `error`."""
    if found := _GPU_FAILED.search(str(error)):
        return GpuLost(
            f"A GPU of this machine has failed or is not available ({found['what']}): see nvidia-smi and, "
            "for Xid errors, the kernel's log"
        )
    if _NO_SHARED_MEMORY.search(str(error)):
        return DiskError(
            "Shared memory (/dev/shm), which loader workers and several GPUs need, is full. Make it larger "
            "(with Docker, by shm_size; in Kubernetes, by an emptyDir with medium: Memory at /dev/shm), or "
            "set fewer workers or a smaller batch"
        )
    return None


@contextmanager
def recognize_killed_workers(wait_seconds: float = 5) -> Iterator[None]:
    """Raise ProcessKilled if the block raises an error because a loader worker was killed.

    If a worker is killed while it hands over a batch, its connection breaks shortly before the kernel reports
    its death. PyTorch then raises an error that does not name the worker. After such an error, wait up to
    `wait_seconds` seconds for PyTorch's error about the killed worker.
    """
    try:
        yield
    except Exception as error:
        is_broken = isinstance(error, (ConnectionError, EOFError)) or str(error) == _NOT_PINNED
        killed = _await_report(wait_seconds) if is_broken else error
        if killed is None or not reports_killed_worker(killed):
            raise
        raise ProcessKilled(format_error(killed).rstrip(".")) from error


def _await_report(seconds: float) -> RuntimeError | None:
    """Return PyTorch's error about a worker that has died, or None if there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    try:
        from torch._C import _error_if_any_worker_fails

        while time.monotonic() < deadline:
            _error_if_any_worker_fails()  # PyTorch's SIGCHLD handler may also raise this in sleep()
            time.sleep(0.05)
    except RuntimeError as error:
        return error
    return None

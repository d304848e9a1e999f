"""Runs code that parses untrusted files in a separate process with limited memory and CPU time.

The process receives only a function's name and plain values, and returns only plain values, so neither side
unpickles anything. The process is a fresh interpreter, because a fork of a process with threads (boto3's,
torch's) can hang. Its log lines are forwarded to the log of its parent, so that the task's log shows
progress. It dies with its parent, however the parent ends.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from include.child_processes import add_project_to_path, die_with
from include.datasets.disk import describe_unusable_disk, explain_unusable_disk, is_lack_of_memory, is_passing
from include.datasets.errors import DatasetChanged, DatasetError, DatasetNotHere, ReaderKilled
from include.errors import AttemptError
from include.limits import CHECK_CPU_SECONDS, CHECK_MEMORY, MIB, in_words
from include.trusted_folders import UntrustedFolder

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = "include.datasets.confinement"
"""The name of this module, which is `__main__` in the process that it starts."""

log = logging.getLogger(_NAME)

_ROOT = Path(__file__).resolve().parents[2]
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONHOME", "PYTHONPATH")
"""The process inherits only these environment variables, because others may contain passwords."""

_LONGEST_MESSAGE = 128 * MIB
Json = str | int | dict[str, Any] | list[Any] | None
_FINAL = {each.__name__: each for each in (DatasetError, DatasetChanged, DatasetNotHere)}
_ASKED_TO_END = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class ConfinedProcessEnded(AttemptError):
    """The process that reads the data could not run or was told to stop. The data may be fine."""


@dataclass(frozen=True)
class ProcessLimits:
    """Resources that the process may use."""

    memory: int = CHECK_MEMORY
    """Bytes of address space that the process may use in addition to its imported modules."""
    cpu_seconds: int = CHECK_CPU_SECONDS
    """CPU time that the process may use between two log lines."""


def run_confined(
    function: Callable[..., Any],
    *arguments: Json,
    source: str,
    limits: ProcessLimits = ProcessLimits(),
) -> Any:
    """Return function(*arguments), computed in a confined process; arguments and result pass through JSON.

    `source` is the dataset as the user named it, for error messages. Raises DatasetError, including when the
    function fails unexpectedly or exceeds a limit; ReaderKilled if SIGKILL ended the process; DatasetNotHere
    if the disk is full or not writable; UntrustedFolder; and OSError and ConfinedProcessEnded, after which a
    retry may succeed.
    """
    request = {
        "function": f"{function.__module__}:{function.__qualname__}",
        "arguments": arguments,
        "limits": asdict(limits),
        "parent": os.getpid(),
        # Each log line extends the CPU limit, so the process logs its progress even if nobody sees the lines.
        "level": min(log.getEffectiveLevel(), logging.INFO),
    }
    with subprocess.Popen(
        [sys.executable, "-m", _NAME],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        env=_build_environment(),
        text=True,
    ) as process:
        try:
            answer = _converse(process, json.dumps(request), source)
        finally:
            process.kill()
    if answer is None:
        _raise_end(process.returncode, source, limits)
    if "error" in answer:
        _raise_error(answer["error"], source, limits)
    return answer["result"]


def _build_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # Each of glibc's arenas reserves 64 MiB of address space, and each thread would get its own arena. The
    # threads of OpenBLAS, which computes nothing here, reserve memory, too. OpenCV's logging is off, because
    # the check reports the same problems more clearly.
    fixed = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "OFF"}
    return add_project_to_path(kept) | fixed


def _converse(process: subprocess.Popen[str], request: str, source: str) -> dict[str, Any] | None:
    """Send the request, forward the process's log, and return its answer; None if it ends without one.

    Raises DatasetError if a line is too long.
    """
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    try:
        process.stdin.write(f"{request}\n")
        process.stdin.close()
    except BrokenPipeError:
        pass  # the exit status of the process shows why
    while line := process.stdout.readline(_LONGEST_MESSAGE):
        if len(line) == _LONGEST_MESSAGE and not line.endswith("\n"):
            raise DatasetError(
                f"Dataset {source!r}: the process that reads it returned more than "
                f"{in_words(_LONGEST_MESSAGE)}; look for a very large file, or divide the dataset"
            )
        if not line.endswith("\n"):  # the process ended mid-line
            process.kill()
            break
        message = json.loads(line)
        if "log" not in message:
            return dict(message)
        logging.getLogger(message["log"]).log(message["level"], "%s", message["text"])
    process.wait()
    return None


def _raise_end(status: int, source: str, limits: ProcessLimits) -> NoReturn:
    if status >= 0:
        raise ConfinedProcessEnded(f"The process that reads {source!r} could not run (status {status})")
    number = signal.Signals(-status)
    if number in _ASKED_TO_END:
        raise ConfinedProcessEnded(f"The process that reads {source!r} was told to stop ({number.name})")
    if number == signal.SIGXCPU:
        raise DatasetError(
            f"Dataset {source!r}: reading it made no progress within the limit of {limits.cpu_seconds} s of "
            "CPU time; look for a damaged or very large file, or divide the dataset"
        )
    refusal = ReaderKilled if number == signal.SIGKILL else DatasetError
    raise refusal(
        f"Dataset {source!r}: the process that reads it was killed ({number.name}), most likely because "
        "memory ran out or a file is damaged; look for a very large or damaged file, or try again on a "
        "machine with more memory"
    )


def _raise_error(error: dict[str, Any], source: str, limits: ProcessLimits) -> NoReturn:
    kind, text = error["kind"], error["text"]
    if kind in _FINAL:
        raise _FINAL[kind].from_json(text, error["findings"])
    if kind == "OSError":
        raise OSError(error["errno"], text)
    if kind == "UnusableDisk":
        raise describe_unusable_disk(f"Dataset {source!r}", "on this machine", text)
    if kind == "UntrustedFolder":
        raise UntrustedFolder(text)
    if kind == "MemoryError":
        raise DatasetError(
            f"Dataset {source!r}: reading it exceeds the limit of {in_words(limits.memory)} of memory; "
            "divide the dataset, or look for a very large file in it"
        )
    raise DatasetError(
        f"Dataset {source!r} cannot be read: an unexpected error occurred ({text}). Check its data "
        "YAML, labels and file names; the log shows where reading stopped"
    )


class _Messages(logging.Handler):
    """Sends log lines to the parent. Each line means progress, so it extends the CPU limit."""

    def __init__(self, stream: TextIO, cpu_seconds: int) -> None:
        super().__init__()
        self._stream, self._cpu_seconds = stream, cpu_seconds

    def emit(self, record: logging.LogRecord) -> None:
        self.send({"log": record.name, "level": record.levelno, "text": record.getMessage()})
        _extend_cpu_limit(self._cpu_seconds)

    def send(self, message: dict[str, Any]) -> None:
        self._stream.write(json.dumps(message) + "\n")
        self._stream.flush()


def main() -> None:
    """Run the confined process: read the request, apply the limits, answer."""
    # Read only one line, because a process forked in the meantime may keep the pipe open.
    request = json.loads(sys.stdin.readline())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it, too, and ends this process
    die_with(request["parent"])
    limits = ProcessLimits(**request["limits"])
    # The messages get a stream of their own, so that text that a library prints does not end up among them.
    messages = _Messages(os.fdopen(os.dup(1), "w", encoding="utf-8"), limits.cpu_seconds)
    os.dup2(2, 1)
    logging.basicConfig(level=request["level"], handlers=[messages])
    try:
        answer = {"result": _call(request["function"], request["arguments"], limits)}
    except Exception as error:  # the parent decides which errors are final
        answer = {"error": _describe_error(error)}
    messages.send(answer)
    os._exit(0)  # skips freeing a million objects one by one


def _call(name: str, arguments: list[Any], limits: ProcessLimits) -> Any:
    module_name, _, function = name.partition(":")
    module = importlib.import_module(module_name)
    called = getattr(module, function)
    for preloaded in getattr(module, "PRELOADED", ()):
        importlib.import_module(preloaded)
    _limit_memory(limits.memory)
    _extend_cpu_limit(limits.cpu_seconds)
    return called(*arguments)


def _limit_memory(size: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + size)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(limit: int, value: int) -> None:
    """Set a soft limit, capped by the hard limit that an administrator may have set."""
    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _extend_cpu_limit(seconds: int) -> None:
    """Allow this process `seconds` more of CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds)


def _describe_error(error: Exception) -> dict[str, Any]:
    """Describe an error for the parent; omit the text of unexpected errors, which may quote a file."""
    text = str(error).encode("utf-8", "backslashreplace").decode()  # file names may not be encodable in UTF-8
    if isinstance(error, DatasetError):
        kind = type(error).__name__
        return {"kind": kind if kind in _FINAL else "DatasetError", "text": text, "findings": error.as_json()}
    if isinstance(error, UntrustedFolder):
        return {"kind": "UntrustedFolder", "text": text}
    if isinstance(error, OSError) and is_passing(error):
        return {"kind": "OSError", "errno": error.errno, "text": error.strerror}
    if (problem := explain_unusable_disk(error)) is not None:
        return {"kind": "UnusableDisk", "text": problem.encode("utf-8", "backslashreplace").decode()}
    if is_lack_of_memory(error):
        return {"kind": "MemoryError", "text": ""}
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.warning("The check failed with %s:\n%s", type(error).__qualname__, frames)
    return {"kind": "Exception", "text": type(error).__qualname__}


if __name__ == "__main__":
    main()

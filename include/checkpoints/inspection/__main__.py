"""Inspect checkpoints without loading them: `python -m include.checkpoints.inspection best.pt`.

It prints a line of JSON to stdout for each file that may be loaded. Exit status: 0 if all files may be
loaded, 1 if a file may not be loaded or cannot be read (stderr says why), 2 for wrong usage. Needs neither
PyTorch nor Ultralytics.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from include.checkpoints.inspection.errors import InspectionError
from include.checkpoints.inspection.inspect import inspect_file

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Inspect the files on the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m include.checkpoints.inspection",
        description="Describe checkpoints, and say whether they may be loaded. Nothing in them is run.",
    )
    parser.add_argument("file", nargs="+", type=Path, help="a .pt file of Ultralytics")
    status = 0
    for path in parser.parse_args(argv).file:
        try:
            contents = inspect_file(path)
        except (InspectionError, OSError) as error:
            sys.stderr.write(
                f"error: {path} {error}\n" if isinstance(error, InspectionError) else f"error: {error}\n"
            )
            status = 1
        else:
            sys.stdout.write(json.dumps({"file": str(path), **asdict(contents)}) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())

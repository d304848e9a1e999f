"""Print the notes of a release: its section of CHANGELOG.md, and the schema revision that it needs.

    python3 .ci/release_notes.py v0.1.0

Fails if the tag does not match the version in pyproject.toml, or if the changelog has no section for that
version: a release must not be published with the wrong version or notes. Uses only the standard library.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class ReleaseError(Exception):
    """The release cannot be published; the message tells the person who pushed the tag why."""


def release_notes(tag: str, root: Path = ROOT) -> str:
    """Return the notes for `tag` as Markdown. Raises ReleaseError."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if tag != f"v{version}":
        raise ReleaseError(
            f"The tag is {tag}, but pyproject.toml says version {version}: the tag must be v{version}."
        )
    changes = changes_of(version, (root / "CHANGELOG.md").read_text(encoding="utf-8"))
    return (
        f"{changes}\n\nSchema revision: `{newest_revision(root)}`. Run `migrate_schema` after the update.\n"
    )


def changes_of(version: str, changelog: str) -> str:
    """Return the section of `version` without its heading. Raises ReleaseError if there is none."""
    section = re.search(
        rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## |^\[|\Z)", changelog, flags=re.MULTILINE | re.DOTALL
    )
    if section is None or not section[1].strip():
        raise ReleaseError(
            f"CHANGELOG.md has no changes for {version}: add a section '## [{version}] - <date>'."
        )
    return section[1].strip()


def newest_revision(root: Path) -> str:
    """Return the number of the newest schema revision, taken from the start of its file name."""
    revisions = (root / "sql" / "migrations" / "versions").glob("[0-9]*.py")
    return max(path.name for path in revisions).partition("_")[0]


def main() -> int:
    """Print the notes for the tag on the command line; return the exit status."""
    try:
        sys.stdout.write(release_notes(sys.argv[1]))
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

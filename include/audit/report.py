"""The result of an audit: a report in Markdown for people, and a few numbers for other tasks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.audit.findings import FindingKind
from include.plain_text import escape_controls

if TYPE_CHECKING:
    from include.audit.findings import AuditFinding
    from include.audit.recorded import RecordedObject
    from include.s3.listing import ListedObject

SHOWN = 20
"""Maximum number of findings of each kind that the report lists; the table may have more."""

MOST_ROWS = 10_000
"""Maximum number of findings of each kind that an audit records. Without a limit, a bucket full of orphans
would add a row per object every day."""

_TITLES = {
    FindingKind.MISSING: "Missing: a row names an object that does not exist",
    FindingKind.DAMAGED: "Damaged: an object differs from its row",
    FindingKind.STUCK: "Stuck: a row says that a job is active, but its run is not",
    FindingKind.ORPHAN: "Orphans: objects that no row refers to",
    FindingKind.ABANDONED_UPLOAD: "Abandoned: uploads that were never completed",
    FindingKind.UNFENCED: "Unfenced: the S3 server does not honour conditions on writes",
    FindingKind.LEFTOVER: "Leftovers: files on this machine that are no longer needed",
}


def format_size(size: int) -> str:
    """Return a number of bytes in readable form, such as 1.5 GB."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


@dataclass
class AuditReport:
    """Figures of one audit, and the first few findings of each kind, in constant memory."""

    objects: int = 0
    """Number of objects in the bucket."""
    bytes: int = 0
    """Total size of the objects in the bucket."""
    checked: int = 0
    """Number of recorded objects whose metadata were compared with their rows."""
    reread: int = 0
    """Number of recorded objects whose bytes were read again."""
    reread_bytes: int = 0
    """Total size of the objects that `reread` counts."""
    found: Counter[FindingKind] = field(default_factory=Counter)
    """Number of findings of each kind."""
    repaired: Counter[FindingKind] = field(default_factory=Counter)
    """Number of repaired findings of each kind."""
    sizes: Counter[FindingKind] = field(default_factory=Counter)
    """Total size in bytes of the objects and folders found, by kind of finding."""
    lost: int = 0
    """Number of recorded objects that are missing or damaged, and were not repaired."""
    losses: list[AuditFinding] = field(default_factory=list)
    """The first few of the findings that `lost` counts."""
    examples: dict[FindingKind, list[AuditFinding]] = field(default_factory=lambda: defaultdict(list))
    """The first few findings of each kind."""

    def count_listed(self, page: Collection[ListedObject]) -> None:
        """Count these objects as contents of the bucket."""
        self.objects += len(page)
        self.bytes += sum(item.size for item in page)

    def count_reread(self, objects: Collection[RecordedObject]) -> None:
        """Count these objects as read again."""
        self.reread += len(objects)
        self.reread_bytes += sum(recorded.size or 0 for recorded in objects)

    def add(self, finding: AuditFinding) -> None:
        """Count a finding."""
        kind = finding.kind
        self.found[kind] += 1
        self.sizes[kind] += finding.size or 0
        self.repaired[kind] += finding.repair is not None
        if len(self.examples[kind]) < SHOWN:
            self.examples[kind].append(finding)
        if finding.is_loss:
            self.lost += 1
            if len(self.losses) < SHOWN:
                self.losses.append(finding)

    def count_recorded(self, kind: FindingKind) -> int:
        """Return how many findings of that kind the table has."""
        return min(self.found[kind], MOST_ROWS)

    @property
    def sentence(self) -> str:
        """One-line summary."""
        found = ", ".join(
            f"{count} {kind.replace('_', ' ')}"
            + (f" ({self.repaired[kind]} repaired)" if self.repaired[kind] else "")
            for kind, count in sorted(self.found.items())
        )
        return (
            f"{self.checked} recorded objects checked, {self.reread} of them read again "
            f"({format_size(self.reread_bytes)}); {self.objects} objects ({format_size(self.bytes)}) in the "
            f"bucket. Found: {found or 'nothing'}."
        )

    @property
    def failure(self) -> str | None:
        """Why the audit failed, in one sentence; None if no recorded object is lost."""
        if not self.lost:
            return None
        paths = escape_controls(", ".join(finding.path or "" for finding in self.losses[:3]))
        more = f" and {self.lost - 3} more" if self.lost > 3 else ""
        what = "object that a row names is" if self.lost == 1 else "objects that rows name are"
        return (
            f"{self.lost} {what} missing or damaged, and not repaired: {paths}{more}. See the report above "
            "or table checkpoint_audits for what is wrong, and docs/operations.md for what to do"
        )

    def summarize(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return {
            "sentence": self.sentence,
            "objects": self.objects,
            "bytes": self.bytes,
            "checked": self.checked,
            "reread": self.reread,
            "found": {str(kind): count for kind, count in sorted(self.found.items())},
            "repaired": {str(kind): count for kind, count in sorted(self.repaired.items()) if count},
            "lost": self.lost,
        }

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        lines = ["# Audit of checkpoints", "", self.sentence, ""]
        for kind, title in _TITLES.items():
            if not self.found[kind]:
                continue
            size = f", {format_size(self.sizes[kind])}" if self.sizes[kind] else ""
            figures = f"{self.found[kind]} found, {self.repaired[kind]} repaired{size}."
            lines += [f"## {title}", "", figures, ""]
            for finding in self.examples[kind]:
                detail = finding.detail.replace("\n", " ")  # a key may contain a newline
                lines.append(f"- {detail}. **{finding.repair or 'not repaired'}**")
            if self.found[kind] > SHOWN:
                recorded = self.count_recorded(kind)
                more = f"- … and {recorded - SHOWN} more in table checkpoint_audits"
                unrecorded = self.found[kind] - recorded
                lines.append(f"{more}, {unrecorded} not recorded" if unrecorded else more)
            lines.append("")
        return "\n".join(map(escape_controls, lines))

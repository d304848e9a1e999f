"""Decides whether to retrain at all.

A model is not trained again with the same data and parameters as the model in production. This applies even
to a plan that starts from the champion. Otherwise each promotion would be a reason to train once more on the
same data, from the new champion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.models.version import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.models.version import ModelVersion


def find_reason_to_skip(
    champion: ModelVersion | None, same: Iterable[ModelVersion], *, job_id: str
) -> str | None:
    """Return why training is not needed; None if it is.

    `same` holds all versions of the model that were trained on the same data with the same parameters. A
    rejected version counts only if it was compared with the current champion: with a new champion, both the
    starting point and the bar are different. Versions from `job_id` itself do not count.
    """
    for version in same:
        if champion is not None and version.version == champion.version:
            return (
                f"data and parameters are the same as for {champion}, which is in production; set force=true "
                "to train anyway"
            )
        if (
            version.stage is Stage.REJECTED
            and version.champion_version == (champion.version if champion else None)
            and version.job_id != job_id
        ):
            return (
                f"data and parameters are the same as for {version}, which was already rejected "
                f"({version.reason}); set force=true to train anyway"
            )
    return None

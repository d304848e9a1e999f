"""Whether a training would teach anything new. The same data and parameters train the same model here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.models.version import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.models.version import ModelVersion


def nothing_new(
    champion: ModelVersion | None,
    earlier: Iterable[ModelVersion],
    *,
    data: str,
    parameters: str,
    job_id: str,
) -> str | None:
    """Say why a training on `data` with `parameters` (fingerprints) is not worth a GPU; None if it is.

    earlier are versions of the same model. One that was refused counts while it had the same champion to
    beat: a new one is another start and another mark. So does none that job_id itself made.
    """

    def is_the_same(version: ModelVersion) -> bool:
        return (version.dataset_fingerprint, version.parameters_fingerprint) == (data, parameters)

    if champion is not None and is_the_same(champion):
        return (
            f"data and parameters are those of {champion}, which is in production; give force=true to train "
            "all the same"
        )
    beaten = champion.version if champion else None
    for version in earlier:
        if (
            version.stage is Stage.REJECTED
            and version.champion_version == beaten
            and version.job_id != job_id
            and is_the_same(version)
        ):
            return (
                f"data and parameters are those of {version}, which was refused already ({version.reason}); "
                "give force=true to train all the same"
            )
    return None

"""A reference to checked training data: small, plain JSON, valid on every machine."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DatasetReference(BaseModel):
    """What `check_dataset` hands on and `train` turns into local files on its own machine.

    source is what the user gave (`digits`, a path, an s3:// URI). fingerprint identifies the content: two
    references with equal fingerprints train on the same bytes. Counts are images; size is in bytes.
    stat_digest, for a path only, is of the files' names, sizes and times: while it is the same, the content
    need not be read again to be known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    task: str
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    train_images: int
    val_images: int
    classes: dict[int, str]
    size: int
    stat_digest: str | None = None

"""A reference to checked training data: small, plain JSON, valid on every machine."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DatasetReference(BaseModel):
    """The result of `check_dataset`, which `train` turns into local files on its own machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    """The parameter `dataset` as given: `digits`, a path, or an s3:// URI."""
    task: str
    """The task that it was checked for."""
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Identifies the content: two references with equal fingerprints train on the same bytes."""
    train_images: int
    """Number of images to train on."""
    val_images: int
    """Number of images to validate with."""
    classes: dict[int, str]
    """Names by number."""
    size: int
    """In bytes."""
    stat_digest: str | None = None
    """Digest of the names, sizes and times of the files at a local path: while it is unchanged, the content
    need not be read again. None for any other source."""

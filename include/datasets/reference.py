"""A reference to checked training data: small, plain JSON, valid on every machine."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class DatasetReference(BaseModel):
    """What `check_dataset` hands on and `train` turns into local files on its own machine.

    source is what the user gave (`digits`, a path, an s3:// URI). fingerprint identifies the content: two references
    with equal fingerprints train on the same bytes. Counts are images; size is in bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    task: str
    fingerprint: str
    train_images: int
    val_images: int
    classes: dict[int, str]
    size: int

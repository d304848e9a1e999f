"""The class table of a dataset: how often each class occurs in each split."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ClassCount(BaseModel):
    """How often one class occurs.

    An instance is a labelled object. For classify, it is an image; for semantic with masks, it is an image
    that contains the class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    train: int
    """Instances in the images to train on."""
    val: int
    """Instances in the images to validate with."""
    train_images: int
    """Images to train on that contain the class."""
    val_images: int
    """Images to validate with that contain the class."""

"""A reference to checked training data: plain JSON that any machine with access to the data can use."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from include.datasets.rules import Split
from include.ultralytics_tasks import Task


class DatasetVersionName(BaseModel):
    """A registered version of a dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of the dataset."""
    version: int
    """Counted from 1."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class ClassCount(BaseModel):
    """How often one class occurs.

    An instance is a labelled object. For classify, it is an image; for semantic with masks, it is an image
    that contains the class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of the class."""
    train: int
    """Number of instances in the training images."""
    val: int
    """Number of instances in the validation images."""
    train_images: int
    """Number of training images that contain the class."""
    val_images: int
    """Number of validation images that contain the class."""


class DatasetReference(BaseModel):
    """The result of `check_dataset`: a reference to a dataset, which `train` fetches to its machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    """Where the data are: `digits`, a path, or an s3:// URI. Usually the parameter `dataset` as given."""
    origin: str | None = None
    """The original of a converted dataset: the parameter `dataset` as given or, for a registered version, as
    given at its registration. `source` is then the converted copy. None if nothing was converted."""
    version: DatasetVersionName | None = None
    """The registered version that the parameter named, if any; `source` is then the version's source."""
    task: Task
    """The task for which the data were checked."""
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Identifies the content: references with equal fingerprints refer to the same bytes."""
    split: Split = "val"
    """The validation split."""
    train_images: int
    """Number of training images."""
    val_images: int
    """Number of validation images, that is, images of `split`."""
    classes: dict[int, str]
    """Class names by class id."""
    class_table: tuple[ClassCount, ...] | None = None
    """In the order of the class ids; None if an earlier release of this project checked the dataset."""
    warnings: int = 0
    """Number of warnings; the report has their texts."""
    size: int
    """Total size of all images and labels in bytes; each file is counted once."""
    stat_digest: str | None = None
    """For a local path, the digest of the names, sizes and times of its files. While it stays the same, their
    content need not be read again. None for any other source."""

    @property
    def parameter(self) -> str:
        """The parameter `dataset` as given; for a registered dataset, always `name@version`."""
        return str(self.version) if self.version else self.origin or self.source

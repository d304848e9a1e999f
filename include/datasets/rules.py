"""The arguments of a training run that determine which data are valid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from include.datasets.errors import DatasetError
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Mapping

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class CheckRules(BaseModel):
    """The arguments of a training run that affect the check of its data.

    The number of image channels is not among them: Ultralytics reads it from the data YAML.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    single_cls: bool = False
    """Whether all classes are merged into one, so that any class id is valid."""
    classes: tuple[int, ...] | None = None
    """The class ids to train on; labels of other classes are ignored. None for all."""
    split: Split = "val"
    """The validation split."""
    val: bool = True
    """Whether the training run validates before its end; if not, `split` needs no labels."""

    @field_validator("classes", mode="before")
    @classmethod
    def _accept_one(cls, given: Any) -> Any:
        """Accept a single class id, as Ultralytics does."""
        return [given] if isinstance(given, int) else given


def check_rules(arguments: Mapping[str, Any]) -> CheckRules:
    """Return the rules for a training run with these arguments of Ultralytics. Raises DatasetError."""
    given = {name: arguments[name] for name in CheckRules.model_fields if arguments.get(name) is not None}
    try:
        return CheckRules.model_validate(given)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        forms = {"classes": "class ids, such as [0, 2]", "split": "train, val or test"}
        form = forms.get(name, "true or false")
        raise DatasetError(f"{name}={show_value(given[name])} must be {form}; correct it") from None

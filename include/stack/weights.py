"""Stores a file of pretrained weights in the local stack's bucket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from include.checkpoints.inspection.errors import InspectionError
from include.deployment.settings import DEFAULT_BUCKET
from include.jobs.model_reference import parse_weights_name
from include.s3.bucket import Bucket
from include.s3.errors import StoreError
from include.stack.errors import StackError
from include.weights.pretrained import PretrainedStore

if TYPE_CHECKING:
    from include.stack.local import Stack
    from include.stack.steps import Steps


def store_weights(stack: Stack, steps: Steps, file: Path) -> None:
    """Inspect `file`, store it under its own name, and print the value for `model`.

    An earlier file of that name is replaced. Raises StackError if S3 is not running or fails, or if the file
    is not a checkpoint that may be loaded.
    """
    if not stack.s3.is_running():
        raise StackError("The stack is not running. Start it with `make up`.")
    try:
        name = parse_weights_name(file.name)
    except ValueError as error:
        raise StackError(f"{file} cannot be stored under its name: {error}.") from None
    store = PretrainedStore(Bucket(stack.s3.client(), DEFAULT_BUCKET), None)
    try:
        stored = store.put(file, name, replace=True)
    except FileNotFoundError:
        raise StackError(f"{file} does not exist.") from None
    except InspectionError as error:
        raise StackError(f"{file} {error}.") from None
    except (OSError, StoreError) as error:
        raise StackError(f"{file} was not stored: {error}.") from None
    steps.say(f"Stored {stored.path}, SHA-256 {stored.sha256}.")
    steps.say(f"To train from these weights, use model={name}")

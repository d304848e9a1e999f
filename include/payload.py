"""The base class of all models that tasks exchange."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Payload(BaseModel):
    """Base of the models that a task returns and other tasks receive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

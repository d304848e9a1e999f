"""What every model that travels between tasks has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Payload(BaseModel):
    """What a task returns, and other tasks take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

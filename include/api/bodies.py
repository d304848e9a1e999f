"""The base classes of what the API receives and returns as JSON.

The docstrings of their fields are the descriptions in the OpenAPI document.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RequestBody(BaseModel):
    """Base of the models that routes receive; unknown fields are refused (422)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ResponseBody(BaseModel):
    """Base of the models that routes return."""

    model_config = ConfigDict(use_attribute_docstrings=True)

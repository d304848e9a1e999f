"""Errors about versions of models; their messages are for the person who reads a task's log."""

from __future__ import annotations

from include.errors import FinalError, NotFound


class ModelError(FinalError):
    """The base class of errors about versions of models."""


class VersionUnknown(ModelError, NotFound):
    """The model, or that version of it, does not exist."""


class NotRegistered(ModelError):
    """A job's best.pt cannot be registered as a version."""


class PromotionRefused(ModelError):
    """The current stages of the model's versions do not allow this promotion or rejection."""


class PromotionConflict(PromotionRefused):
    """Another promotion of the same model is under way."""


class SignatureRefused(ModelError):
    """The version's signature is not genuine, or signs something else."""


class NotSigned(SignatureRefused):
    """No trusted key has signed the version: its signature is missing, or was made with another key."""

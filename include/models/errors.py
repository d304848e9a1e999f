"""What can go wrong with versions of models, in sentences for the person who reads a task's log."""

from __future__ import annotations

from include.errors import FinalError


class ModelError(FinalError):
    """Trying again does not help: something has to be decided or changed first."""


class VersionUnknown(ModelError):
    """There is no such model, or no such version of it."""


class NotRegistered(ModelError):
    """A job's best.pt cannot become this version."""


class PromotionRefused(ModelError):
    """The version must not come into production as things are."""


class PromotionConflict(PromotionRefused):
    """Somebody else promotes a version of the same model at the same time."""

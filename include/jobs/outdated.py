"""What only specs of earlier versions may contain: accepted in stored specs, refused in new jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

REPLACED = {"publish_interval": "publish_seconds"}
"""Parameters that no longer exist, and their replacements."""


def update_outdated(params: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Return `params` without replaced parameters, and with overrides that became parameters moved to them.

    known contains the names of the current parameters.
    """
    current = {name: value for name, value in params.items() if name not in REPLACED}
    moved = _find_moved(params, known)
    if moved:
        rest = {name: value for name, value in params["overrides"].items() if name not in moved}
        current |= moved | {"overrides": rest}
    return current


def explain_outdated(params: Mapping[str, Any], known: Container[str]) -> dict[str, str]:
    """Return, for each field of `params` with outdated content, a sentence that says what to give instead."""
    sentences = {
        name: f"{name}={show_value(params[name])} is no longer a parameter; use {replacement}"
        for name, replacement in REPLACED.items()
        if name in params
    }
    if moved := _find_moved(params, known):
        sentences["overrides"] = f"{min(moved)} is a separate parameter: give it directly, not in overrides"
    return sentences


def _find_moved(params: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Return the entries of `overrides` that are parameters of their own."""
    overrides = params.get("overrides")
    if not isinstance(overrides, dict):
        return {}
    return {name: value for name, value in overrides.items() if name in known}

"""Middleware for the whole API server, because Airflow sets no limits for requests to its own routes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from include.serving.bodies import SMALL, BodyLimit, RequestLimits
from include.serving.logins import LoginThrottle

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_MIB = 10
"""Default size limit for request bodies on Airflow's own routes: bulk imports, confs, task results, …"""

_SECONDS = 60.0


class ServerSettingError(ValueError):
    """A setting of the API server is invalid; the message is one sentence."""


def list_root_middlewares(
    larger: Mapping[str, BodyLimit], environment: Mapping[str, str] = os.environ
) -> list[dict[str, Any]]:
    """Return `fastapi_root_middlewares` of our plugin, the innermost first. Raises ServerSettingError.

    `larger` maps the prefixes of paths that accept larger bodies to their limits.
    """
    limits = {
        "default": BodyLimit(_read_most_mib(environment) * 1024 * 1024, _SECONDS),
        "limits": {"/auth/": SMALL, **larger},
        "limits_heads": False,
    }
    return [
        {"name": "Limit on failed logins", "middleware": LoginThrottle},
        {"name": "Limits of requests", "middleware": RequestLimits, "kwargs": limits},
    ]


def _read_most_mib(environment: Mapping[str, str]) -> int:
    given = environment.get("MAX_REQUEST_MIB") or str(MOST_MIB)
    if not given.isdecimal() or not 1 <= int(given) <= 4096:
        raise ServerSettingError(
            f"MAX_REQUEST_MIB={given!r:.20} is not a whole number between 1 and 4096; omit it to use "
            f"{MOST_MIB}"
        )
    return int(given)

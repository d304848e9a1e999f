"""Absolute addresses, from `[api] base_url`: what any browser or program can open."""

from __future__ import annotations

from functools import cache
from urllib.parse import quote

from airflow.configuration import conf

PREFIX = "/training/api/v1"
"""Where Airflow's API server mounts the API."""


@cache
def airflow_url() -> str:
    """Of Airflow's UI, without a slash at its end; as Airflow itself does where base_url is not set.

    Airflow reads its configuration when it starts, and to ask it takes longer than all else about a link.
    """
    return conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")


def at_airflow(*parts: str) -> str:
    """Return the address of a page of Airflow's UI, or of a route of its own API."""
    return f"{airflow_url()}/{_path(*parts)}"


def at_api(*parts: str) -> str:
    """Return the address of a route of this API."""
    return f"{airflow_url()}{PREFIX}/{_path(*parts)}"


def _path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)

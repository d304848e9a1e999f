"""Absolute URLs, built from `[api] base_url`, that any browser or program can open."""

from __future__ import annotations

from functools import cache
from urllib.parse import quote

from airflow.configuration import conf

from include.api import PREFIX


@cache
def airflow_url() -> str:
    """Return the base URL of Airflow's UI without a trailing slash (Airflow's own default if unset).

    The URL is cached because looking it up takes longer than building the rest of a link. It cannot change,
    because Airflow reads its configuration only at startup.
    """
    return conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")


def build_airflow_url(*parts: str) -> str:
    """Return the URL of a page of Airflow's UI, or of a route of Airflow's own API."""
    return f"{airflow_url()}/{_path(*parts)}"


def build_api_url(*parts: str) -> str:
    """Return the URL of a route of this API."""
    return f"{airflow_url()}{PREFIX}/{_path(*parts)}"


def _path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)

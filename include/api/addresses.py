"""Builds absolute URLs from `[api] base_url`, which any browser or program can open."""

from __future__ import annotations

from functools import cache
from urllib.parse import quote

from airflow.configuration import conf

from include.api import PREFIX


@cache
def read_airflow_url() -> str:
    """Return the base URL of Airflow's UI without a trailing slash, or Airflow's default if none is set.

    The URL is cached because looking it up takes longer than building the rest of a link. It cannot change,
    because Airflow reads its configuration only at startup.
    """
    return conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")


def build_airflow_url(*parts: str) -> str:
    """Return the URL of a page of Airflow's UI, or of a route of Airflow's own API."""
    return f"{read_airflow_url()}/{_join_path(*parts)}"


def build_api_url(*parts: str) -> str:
    """Return the URL of a route of this API."""
    return f"{read_airflow_url()}{PREFIX}/{_join_path(*parts)}"


def _join_path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)

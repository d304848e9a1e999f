"""The browser for the console tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browsing import open_browser


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Yield one browser for all files in this folder, whose tests therefore cannot use asyncio."""
    with open_browser() as browser:
        yield browser

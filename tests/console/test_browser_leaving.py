"""A page is closed after each test, whatever the page is doing."""

from __future__ import annotations

from contextlib import suppress

from playwright.sync_api import Browser, Error

from tests.support.browsing import Visitor

MOVES_ON = '<meta http-equiv="refresh" content="0; URL=/next">'


def test_a_page_that_is_navigating_is_closed(chromium: Browser) -> None:
    """Regression: for every second such page, Playwright's own `close` never returned."""
    context = chromium.new_context()
    context.route("**/*", lambda route: route.fulfill(content_type="text/html", body=MOVES_ON))
    for _ in range(5):
        visitor = Visitor(context.new_page(), "http://console", s3="")
        visitor.page.goto(visitor.url)
        with suppress(Error):  # the page has moved on already
            visitor.page.evaluate("0")
        visitor.leave()
        assert visitor.page.is_closed()
    context.close()

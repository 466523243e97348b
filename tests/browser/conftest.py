"""A real Chromium in front of a real server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page


class Desk:
    """Someone at the labelling page."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.context = context
        self.url = url
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)

    def see(self, name: str) -> Any:
        return self.page.get_by_test_id(name)

    def painted(self) -> int:
        """Id of the image on screen, once there is one that has really been painted."""
        image = self.page.locator("[data-testid=image][data-painted]")
        image.wait_for(timeout=30_000)
        return int(image.get_attribute("data-item-id") or "0")

    def next_after(self, image_id: int) -> int:
        """Id of the image that follows another one on screen."""
        self.page.locator(f"[data-testid=image][data-painted]:not([data-item-id='{image_id}'])").wait_for()
        return self.painted()

    def press(self, key: str) -> tuple[int, int]:
        """Answer with a key; returns the image that was on and the one that came."""
        before = self.painted()
        self.page.keyboard.press(key)
        return before, self.next_after(before)

    def number(self, name: str) -> int:
        """The first number in something on screen; 0 where it is not there."""
        found = self.see(name)
        if found.count() == 0:
            return 0
        digits = re.sub(r"[^0-9]", "", (found.first.inner_text().split() or ["0"])[0])
        return int(digits or 0)

    def wait_for_number(self, name: str, value: int) -> None:
        self.page.wait_for_function(
            """([name, value]) => {
                const found = document.querySelector(`[data-testid=${name}]`)
                return found && found.innerText.replace(/[^0-9]/g, ' ').trim().split(' ')[0] === String(value)
            }""",
            arg=[name, value],
            timeout=30_000,
        )


@pytest.fixture
def sit_down(browser: Browser) -> Iterator[Callable[..., Desk]]:
    """A browser of its own for each person who sits down: `sit_down(server.url)`."""
    contexts: list[BrowserContext] = []

    def open_page(url: str, *, width: int = 1280, height: int = 800, **options: Any) -> Desk:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        return Desk(context, url)

    yield open_page
    for context in contexts:
        context.close()

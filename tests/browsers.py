"""A real browser for the tests of pages. A module that imports this is skipped where there is none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None and not os.environ.get("CI_REQUIRE_BROWSER"):
    pytest.skip("no chromium on this machine", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "CI_REQUIRE_BROWSER is set, and there is no chromium"
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, width: int = 1280, **options: Any) -> Iterator[Any]:
    """Open a page; it must fetch nothing and say nothing on the console."""
    still = {"reduced_motion": "reduce"}  # or a click lands where a smooth scroll has moved the page to
    context = browser.new_context(viewport={"width": width, "height": 800}, **{**still, **options})
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.wait_for_load_state("networkidle")
    assert said == []
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {path.as_uri()}
    context.close()

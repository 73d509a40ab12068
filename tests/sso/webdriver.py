"""A real Chromium without a window, driven over W3C WebDriver by Debian's chromedriver.

Opened by `conftest.py`. Tests see pages as a person does: by address, text, fields and buttons.
"""

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sso import keeper
from tests.support.processes import own_port, private_environment

READY = "started successfully"
SECONDS = 30
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of a reference to an element, by the standard."""
OPTIONS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing but this machine, whatever a page or the browser itself asks for.
    "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=127.0.0.1;localhost;[::1]",
)


class Browser:
    """One window with a profile of its own."""

    def __init__(self, driver: str, binary: str) -> None:
        self._driver = driver
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        chrome = {"binary": binary, "args": [*OPTIONS, *sandbox]}
        wanted = {
            "browserName": "chrome",
            "acceptInsecureCerts": True,
            "goog:chromeOptions": chrome,
            "timeouts": {"implicit": 0, "pageLoad": SECONDS * 1000, "script": SECONDS * 1000},
        }
        body = {"capabilities": {"alwaysMatch": wanted}}
        self._session = f"/session/{self._call('POST', '/session', body)['sessionId']}"

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self._driver}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=2 * SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise WebDriverError(json.load(error)["value"]["message"]) from None

    def close(self) -> None:
        """End the window and all of its processes."""
        self._call("DELETE", self._session)

    def open(self, url: str) -> None:
        """Go to an address, and wait for the page."""
        self._call("POST", f"{self._session}/url", {"url": url})

    @property
    def url(self) -> str:
        return str(self._call("GET", f"{self._session}/url"))

    @property
    def text(self) -> str:
        """What a person reads."""
        return str(self.run("return document.body ? document.body.innerText : ''"))

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", f"{self._session}/execute/sync", body)

    def find(self, css: str) -> str:
        """The one element; waits for it."""
        return self._find("css selector", css)

    def button(self, label: str) -> str:
        """A button or link by what is written on it."""
        path = (
            f"//button[contains(normalize-space(.), '{label}')]"
            f"|//a[contains(normalize-space(.), '{label}')]"
            f"|//input[@type='submit' and contains(@value, '{label}')]"
        )
        return self._find("xpath", path)

    def _find(self, using: str, value: str) -> str:
        deadline = time.monotonic() + SECONDS
        while True:
            body = {"using": using, "value": value}
            if found := self._call("POST", f"{self._session}/elements", body):
                return str(found[0][ELEMENT])
            assert time.monotonic() < deadline, f"no {value} on {self.url}:\n{self.text}"
            time.sleep(0.1)

    def type(self, css: str, text: str) -> None:
        """Write into a field, in place of what is there."""
        element = self.find(css)
        self._call("POST", f"{self._session}/element/{element}/clear", {})
        self._call("POST", f"{self._session}/element/{element}/value", {"text": text})

    def press(self, element: str) -> None:
        """Click."""
        self._call("POST", f"{self._session}/element/{element}/click", {})

    def wait_for_text(self, text: str) -> str:
        """All the text of the page, once it holds this."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                if text.lower() in (shown := self.text).lower():
                    return shown
            except WebDriverError:  # between two pages
                shown = ""
            assert time.monotonic() < deadline, f"no {text!r} on {self.url}:\n{shown}"
            time.sleep(0.1)


class WebDriverError(Exception):
    """What the driver refuses."""


@contextmanager
def driver(folder: Path) -> Iterator[tuple[str, str]]:
    """The driver's address and the browser's program; skips the test where there is none."""
    program, browser = shutil.which("chromedriver"), shutil.which("chromium")
    if program is None or browser is None:
        pytest.skip("chromium and chromedriver are not installed (chromium, chromium-driver)")
    port = own_port()
    words = [program, f"--port={port}", "--allowed-ips=127.0.0.1"]
    folder.mkdir(exist_ok=True)
    with keeper.kept(
        folder / "chromedriver.log", words, private_environment(folder), READY, port, seconds=60
    ) as told:
        yield f"http://127.0.0.1:{told}", browser


@contextmanager
def window(address: tuple[str, str]) -> Iterator[Browser]:
    """A fresh window, closed at the end."""
    browser = Browser(*address)
    try:
        yield browser
    finally:
        browser.close()

"""A headless browser, driven over WebDriver, for the page's tests; they pass without one."""

import base64
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

FOUND = shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("google-chrome"))


class Browser:
    """One window."""

    def __init__(self, http: httpx.Client, session: str) -> None:
        self._http = http
        self._at = f"/session/{session}"

    def ask(self, path: str, **body: Any) -> Any:
        answer = self._http.post(self._at + path, json=body).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def open(self, url: str) -> None:
        self.ask("/url", url=url)

    def run(self, script: str, *values: Any) -> Any:
        """What the script returns; `arguments` are the values."""
        return self.ask("/execute/sync", script=script, args=list(values))

    def size(self, width: int, height: int) -> None:
        """Of the page, in CSS pixels; a window itself cannot be as narrow as a telephone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=size)

    def keys(self, selector: str, text: str) -> None:
        found = self.ask("/element", using="css selector", value=selector)
        self.ask(f"/element/{next(iter(found.values()))}/value", text=text)

    def click(self, selector: str) -> None:
        found = self.ask("/element", using="css selector", value=selector)
        self.ask(f"/element/{next(iter(found.values()))}/click")

    def until(self, script: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not self.run(f"return {script}"):
            assert time.monotonic() < end, script
            time.sleep(0.02)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._http.get(self._at + "/screenshot").json()["value"]))

    def log(self) -> list[str]:
        """What the console said: broken policies, script errors."""
        return [entry["message"] for entry in self.ask("/se/log", type="browser")]


@contextlib.contextmanager
def browsing(profile: Path, dark: bool = False) -> Iterator[Browser]:
    """A browser of its own, gone afterwards. `profile`: an empty folder for it."""
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        port = link.getsockname()[1]
    driver = subprocess.Popen(
        [str(shutil.which("chromedriver")), f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            _wait(lambda: http.get("/status").json()["value"]["ready"])
            flags = [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                "--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}",
            ]  # fmt: skip
            if dark:
                flags.append("--blink-settings=preferredColorScheme=0")
            options = {
                "goog:chromeOptions": {"args": flags, "binary": FOUND},
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            session = http.post("/session", json={"capabilities": {"alwaysMatch": options}}).json()
            number = session["value"]["sessionId"]
            try:
                yield Browser(http, number)
            finally:
                http.delete(f"/session/{number}")
    finally:
        driver.terminate()
        driver.wait(10)


def _wait(done: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.ConnectError):
            if done():
                return
        assert time.monotonic() < end, "the browser's driver does not start"
        time.sleep(0.05)

"""A headless Chromium that shows a file and tells what went on in the page."""

import base64
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from itertools import count
from urllib.request import ProxyHandler, build_opener

import pytest

websocket = pytest.importorskip("websocket")

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--remote-debugging-port=0"
).split()
_PATIENCE = 30  # seconds


@contextmanager
def browser_page(folder):
    """A page of a browser whose profile is in an empty folder."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs chromium: apt-get install chromium")
    process = subprocess.Popen(
        [program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        page = Page(_address(folder / "DevToolsActivePort"))
        try:
            yield page
        finally:
            page.close()
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _address(port_file):
    """Address of the first page, once the browser has written where it listens."""
    # No proxy of the environment is asked for what is on this machine.
    opener = build_opener(ProxyHandler({}))
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if port_file.exists() and port_file.read_text().count("\n"):
            port = port_file.read_text().splitlines()[0]
            with opener.open(f"http://127.0.0.1:{port}/json") as answer:
                pages = [t for t in json.load(answer) if t["type"] == "page"]
            if pages:
                return pages[0]["webSocketDebuggerUrl"]
        time.sleep(0.05)
    raise TimeoutError(f"chromium has not started within {_PATIENCE} s")


class Page:
    """A page by the DevTools protocol; what it logs and requests is kept."""

    def __init__(self, address):
        self._socket = websocket.create_connection(
            address, timeout=_PATIENCE, suppress_origin=True, http_no_proxy=["*"]
        )
        self._numbers = count(1)
        self.events = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        self._socket.send(json.dumps(message))
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def _receive(self):
        message = json.loads(self._socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def show(self, path, width, height=900):
        """Load a file in a window of so many CSS pixels."""
        self.events.clear()
        mobile = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=mobile,
        )  # fmt: skip
        self.call("Page.navigate", url=path.as_uri())
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self._receive()

    def evaluate(self, expression):
        """Value of an expression in JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def requests(self):
        """Addresses that were asked for; what the page itself holds has none."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith("data:")]

    def complaints(self):
        """What the console holds."""
        said = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        return [event for event in self.events if event["method"] in said]

    def screenshot(self):
        """The whole page as PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def close(self):
        self._socket.close()

"""A page in Firefox, for tests: Debian's or any, driven by its own WebDriver BiDi."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
ENTER = "\ue007"


class Tab:
    """What is open: `outside` lists requests that left the machine, `errors` what went wrong."""

    def __init__(self, address: str) -> None:
        from websocket import create_connection

        self.outside: list[str] = []
        self.errors: list[str] = []
        self._numbers = count()
        # Firefox answers no page of the web, and so nobody who says that he comes from one.
        self._socket = create_connection(f"{address}/session", suppress_origin=True, timeout=600)
        self._ask("session.new", capabilities={})
        self._ask("session.subscribe", events=["network.beforeRequestSent", "log.entryAdded"])
        self._context = self._ask("browsingContext.getTree")["contexts"][0]["context"]

    def open(self, address: str) -> None:
        self._ask("browsingContext.navigate", context=self._context, url=address, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """What an expression is, or the promise that it is, by way of JSON."""
        code = f"(async () => JSON.stringify((await ({expression})) ?? null))()"
        target = {"context": self._context}
        told = self._ask("script.evaluate", expression=code, target=target, awaitPromise=True)
        if told["type"] == "exception":
            raise AssertionError(told["exceptionDetails"]["text"])
        return json.loads(told["result"]["value"])

    def until(self, expression: str, seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never came: {expression}"
            time.sleep(0.2)

    def type(self, text: str) -> None:
        """By keys, where the focus is."""
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keys", "actions": keys}]
        self._ask("input.performActions", context=self._context, actions=actions)

    def _ask(self, method: str, **given) -> dict:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": given}))
        while (told := json.loads(self._socket.recv())).get("id") != number:
            self._hear(told.get("method"), told.get("params", {}))
        assert told["type"] == "success", told
        return told["result"]

    def _hear(self, event: str, told: dict) -> None:
        if event == "log.entryAdded" and told["type"] == "javascript":
            self.errors.append(told["text"])
        if event == "network.beforeRequestSent":
            address = told["request"]["url"]
            if not address.startswith(("data:", "blob:", "file:")):
                self.outside.append(address)


@contextmanager
def firefox(profile: Path) -> Iterator[Tab]:
    """A headless Firefox with a profile in an empty folder, and its only tab."""
    command = [FIREFOX, "--headless", "--profile", profile, "--remote-debugging-port", "0"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told = profile / "WebDriverBiDiServer.json"  # written once it listens
    try:
        while not (told.exists() and told.stat().st_size):
            assert browser.poll() is None, f"{FIREFOX} ended"
            time.sleep(0.1)
        yield Tab("ws://{ws_host}:{ws_port}".format(**json.loads(told.read_text())))
    finally:
        browser.terminate()
        browser.wait(20)

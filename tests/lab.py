"""JupyterLab in a real browser, for tests: Debian's or any Chromium, driven by playwright."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
OUTPUT = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea-output"
RUN = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  await window.jupyterapp.commands.execute("notebook:run-all-cells");
}"""
# From the notebook's own model: cells out of sight are not in the page.
FAILED = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
  .flatMap((cell) => cell.outputs ?? [])
  .filter((output) => output.output_type === "error")
  .map((output) => `${output.ename}: ${output.evalue}`)"""


class Browser:
    """A page, and what went wrong in it: `outside` lists requests that left the machine."""

    def __init__(self, chromium, base: str = "", **options) -> None:
        self.page = chromium.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
        self.outside: list[str] = []
        self.errors: list[str] = []
        self._home = (base, base.replace("http", "ws", 1)) if base else ()
        self.page.on("request", self._requested)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _requested(self, request) -> None:
        if not request.url.startswith((*self._home, "data:", "blob:", "file:")):
            self.outside.append(request.url)


class Lab:
    """A running JupyterLab with a folder of its own."""

    def __init__(self, chromium, base: str, token: str, folder: Path) -> None:
        self.chromium, self.base, self.token, self.folder = chromium, base, token, folder

    def run(
        self, *cells: str, name: str = "test.ipynb", timeout: float = 240, fails: int = 0, **options
    ) -> Browser:
        """A notebook of these cells, opened and run to its end, in which so many cells fail;
        options as for a browser's page."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self.folder / name)
        return self.open(name, timeout, fails, **options)

    def open(self, name: str, timeout: float = 240, fails: int = 0, **options) -> Browser:
        """A notebook in the folder, run to its end."""
        browser = Browser(self.chromium, self.base, **options)
        page = browser.page
        page.set_default_timeout(60_000)
        page.goto(f"{self.base}/lab/tree/{name}?token={self.token}&reset")
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)").wait_for()
        page.evaluate(f"() => {{ ({RUN})().finally(() => (window.ran = true)); }}")
        page.wait_for_function("() => window.ran !== undefined", timeout=timeout * 1000)
        assert len(failed := page.evaluate(FAILED)) == fails, failed
        return browser


@contextmanager
def jupyterlab(chromium, folder: Path, theme: str = "JupyterLab Light") -> Iterator[Lab]:
    """Starts JupyterLab with nothing of the user's settings, and ends it with its kernels."""
    token, home, work = secrets.token_hex(16), folder / "home", folder / "work"
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    work.mkdir()
    quiet = {"fetchNews": "false", "checkForUpdates": False}  # else a pop-up covers a corner
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    places = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "run",
        "IPYTHONDIR": "ipython", "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
                "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
                f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={work}",
                "--LabApp.expose_app_in_browser=True",
            ],
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {name: str(home / place) for name, place in places.items()},
        )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        _wait(server, f"{base}/api?token={token}", folder / "lab.log")
        yield Lab(chromium, base, token, work)
    finally:
        server.terminate()  # it ends its kernels itself
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def _wait(server: subprocess.Popen, address: str, log: Path, seconds: float = 90) -> None:
    for _ in range(int(4 * seconds)):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            time.sleep(0.25)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")

"""`lab`: JupyterLab on the notebooks."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from ..extras import need
from ..writing import written_folder

PACKAGE = Path(__file__).parents[1]
FIRST = "--LabApp.default_url=/lab/tree/00_start_here.ipynb"


def lab(options) -> int:
    """JupyterLab on the notebooks: the clone's own, or a copy of the installed ones."""
    need("jupyterlab", "matplotlib", "ipywidgets", "anywidget")
    notebooks, installed = PACKAGE.parent / "notebooks", PACKAGE / "notebooks"
    if installed.is_dir():
        notebooks = Path("unet-notebooks")
        if not notebooks.exists():
            with written_folder(notebooks) as new:
                others = shutil.ignore_patterns("*.py", "__*")
                shutil.copytree(installed, new, ignore=others, dirs_exist_ok=True)
            print(f"copied the notebooks into ./{notebooks}")
    command = [sys.executable, "-m", "jupyterlab", str(notebooks), FIRST, *options.others]
    status = _serve(command)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if status and root and "--allow-root" not in options.others:
        typed = " ".join(["lab", *options.others, "--allow-root"])
        print(f"unet_explained: as root, type: python -m unet_explained {typed}", file=sys.stderr)
    return status


def _serve(command: list[str]) -> int:
    """The server's status. In a terminal it hears Ctrl-C itself: it asks, and ends its kernels."""
    interrupted = False
    with subprocess.Popen(command) as server:
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())  # else it would serve on
        while server.poll() is None:
            try:
                server.wait()
            except KeyboardInterrupt:
                interrupted = True
                if not (sys.stdin and sys.stdin.isatty()):
                    server.terminate()  # nobody could answer
    if interrupted:
        raise KeyboardInterrupt
    return server.returncode

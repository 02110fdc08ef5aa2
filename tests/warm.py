"""A Python with everything loaded, copies of which do what tests ask: each is a process of its own.

A copy has streams, an environment, signals and an exit of its own, as a command has; what Python
and torch settle as they start, it has not. To start them anew takes seconds, a copy none.
"""

import io
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """status: an exit's, negative for a signal."""

    status: int
    out: str
    err: str


class Warm:
    """Begins one copy after the other; they write into `folder`."""

    def __init__(self, folder: Path) -> None:
        self.out, self.err = folder / "out", folder / "err"
        self.pid = 0
        self._server = subprocess.Popen(
            [sys.executable, __file__], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(30)

    def begin(self, *words: str, code: str = "", pipe: bool = False, **asked) -> None:
        """The command line with these words, or some code.

        pipe: what it writes is read by whoever opens self.out. asked: env; encoding, the streams';
        one, errors go where output goes; closed, streams that are not open.
        """
        for path in (self.out, self.err):
            path.unlink(missing_ok=True)
        (os.mkfifo if pipe else Path.touch)(self.out)
        request = {"words": words, "code": code, "out": str(self.out), "err": str(self.err)}
        self._server.stdin.write(json.dumps(request | asked) + "\n")
        self._server.stdin.flush()
        self.pid = int(self._server.stdout.readline())

    def interrupt_after(self, text: str, late: float = 60) -> None:
        """Ctrl-C, once it has written this."""
        late += time.monotonic()
        while text not in self.out.read_text():
            assert time.monotonic() < late, self.out.read_text() + self.err.read_text()
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGINT)

    def end(self) -> Ended:
        status = int(self._server.stdout.readline())
        out = "" if self.out.is_fifo() else self.out.read_bytes().decode("utf-8", "replace")
        err = self.err.read_text() if self.err.exists() else ""
        return Ended(status, out, err)

    def run(self, *words: str, **asked) -> Ended:
        """To its end."""
        self.begin(*words, **asked)
        return self.end()


def _serve() -> None:
    """One request a line; answers with the copy's number, and its status once it has ended."""
    import diffusers
    import torch
    import transformers

    import unet_explained.widgets.live  # noqa: F401
    from unet_explained.show.picture import Picture

    torch.set_num_threads(1)
    Picture().savefig(os.devnull, format="png")  # finds its fonts
    # What these load only when it is asked for.
    _ = diffusers.DDIMScheduler, diffusers.AutoencoderKL, diffusers.StableDiffusionPipeline
    _ = transformers.CLIPTextModel, transformers.CLIPTokenizerFast
    for line in sys.stdin:
        request = json.loads(line)
        if (pid := os.fork()) == 0:
            return _become(request)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return None


def _become(request: dict) -> None:
    os.environ.update(request.get("env", {}))
    out = os.open(request["out"], os.O_WRONLY)
    err = os.open(request["err"], os.O_WRONLY | os.O_CREAT)
    for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)):
        os.dup2(out if number == 2 and request.get("one") else file, number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, _stream(number, request))
    if request["code"]:
        exec(request["code"], {"__name__": "__main__"})
    else:
        sys.argv[1:] = request["words"]
        runpy.run_module("unet_explained", run_name="__main__")


def _stream(number: int, request: dict) -> io.TextIOWrapper | None:
    """As Python opens them when it starts."""
    if number in request.get("closed", ()):
        os.close(number)
        return None
    file = open(number, "wb" if number else "rb", closefd=False)  # noqa: SIM115
    errors = "backslashreplace" if number == 2 else "strict"
    return io.TextIOWrapper(
        file, request.get("encoding", "utf-8"), errors, line_buffering=number == 2
    )


if __name__ == "__main__":
    _serve()

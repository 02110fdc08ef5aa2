"""What a command writes, where readers go away and terminals lack characters."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


class Forgiving:
    """A stream. Once nobody reads it, what is written is dropped, and the work goes on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._reader_may_go():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                known = self._stream.encoding
                self._stream.write(text.encode(known, "replace").decode(known))
        return len(text)

    def flush(self) -> None:
        with self._reader_may_go():
            self._stream.flush()

    @contextmanager
    def _reader_may_go(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What the stream still holds would be tried again as Python ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if not isinstance(error, BrokenPipeError):
                raise


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Inside `with`, output and errors are such streams; one that was closed leads nowhere."""
    before = sys.stdout, sys.stderr
    # For good: a library may keep the stream that it finds when it is imported.
    found = [open(os.devnull, "w") if stream is None else stream for stream in before]  # noqa: SIM115
    sys.stdout, sys.stderr = (cast(Any, Forgiving(stream)) for stream in found)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before

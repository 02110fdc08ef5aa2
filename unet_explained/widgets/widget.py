"""What the live views share: a script and a style beside the Python, a still picture, a page."""

import base64
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import anywidget
from traitlets import Unicode

from ..json_file import as_json, finite
from ..writing import try_file, write_file
from .modules import FOLDER, joined

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<body class="ux-page">
<main id="view"></main>
<script type="application/json" id="saved">{saved}</script>
<script type="module">{script}</script>
</html>
"""


class Asked(ValueError):
    """A view was asked for what it does not have; its words are shown to the person who asked."""


class View(anywidget.AnyWidget):
    """A live view: traits are its state; scripts and a style of its name, beside it, draw them.

    A view that a page shows lives until close(); one that none has shown, as long as it is held.

    Pages ask for more than the state: `answer` gives it. Where no kernel runs, a notebook shows
    `still()`, and a file written by to_html answers what `baked()` lists. JSON has no NaN: what is
    not finite is told as null.
    """

    name: ClassVar[str]  # of NAME.css and NAME.js
    styles: ClassVar[tuple[str, ...]] = ()  # of views that open in it
    holds: ClassVar[tuple[str, ...]] = ()  # attributes that keep a run alive: close() lets go
    title = Unicode().tag(sync=True)
    _closed = False

    def __init_subclass__(cls, **options: Any) -> None:
        if "name" in vars(cls):  # traitlets make subclasses of their own
            cls._esm = joined(cls.name)
            cls._css = "\n".join(_style(name) for name in ("widget", *cls.styles, cls.name))
        super().__init_subclass__(**options)

    def __init__(self, **state: Any) -> None:
        super().__init__(**finite(state))
        self.on_msg(self._asked)

    def send(self, content: Any, buffers: list | None = None) -> None:
        super().send(finite(content), buffers)

    def open(self) -> None:
        """Not before a page asks for model_id: what is open is in a registry, which keeps it."""

    @property
    def model_id(self) -> str:
        """What a page knows it by."""
        if self.comm is None and not self._closed:
            told = self.get_state()
            super().open()
            # A run in another thread may have changed some of it meanwhile.
            late = {name for name, value in self.get_state().items() if value != told[name]}
            self.send_state(late or ())
        return super().model_id

    def close(self) -> None:
        """Takes it from the page, and lets go of what it is of.

        Its layout is a widget of its own, which ipywidgets would keep for good.
        """
        super().close()
        self.layout.close()
        self._closed = True
        for name in self.holds:
            self.__dict__.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        if name in self.holds:
            raise Asked("this view was closed: make another one")
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def still(self) -> bytes:
        """A PNG of the view as it is now."""
        raise NotImplementedError

    def answer(self, asked: dict) -> tuple[dict, list[bytes]]:
        """What the page asked for: JSON and bytes, 4 MB at the most. Raises Asked if it has not."""
        raise Asked("this view has nothing more to show")

    def baked(self) -> list[dict]:
        """What a page without a kernel can ask for."""
        return []

    def to_html(self, path: str | Path) -> Path:
        """Writes the view as one file that needs neither a kernel nor a network, and returns it.

        Raises OSError, before any work, for a place that cannot be written.
        """
        path = try_file(path)
        page = PAGE.format(
            title=escape(self.title),
            style=self._css,
            saved=as_json({"esm": self._esm} | self.saved()).replace("<", "\\u003c"),
            script=joined("page"),
        )
        return write_file(path, page.encode())

    def saved(self) -> dict:
        """The state, and the answers to what is baked, for a page without a kernel."""
        answers = []
        for asked in self.baked():
            content, buffers = self.answer(asked)
            answers.append([asked, content, [_text(buffer) for buffer in buffers]])
        return {"state": self.state_of_page(), "answers": answers}

    def state_of_page(self) -> dict:
        """The traits of this package's views alone, bytes as {"bytes": base64}."""
        names = [
            name
            for name, trait in self.traits(sync=True).items()
            if not name.startswith("_") and name not in anywidget.AnyWidget.class_traits()
        ]
        values = {name: getattr(self, name) for name in names}
        return {
            name: {"bytes": _text(value)} if isinstance(value, bytes) else value
            for name, value in values.items()
        }

    def _asked(self, widget: Any, message: dict, buffers: list) -> None:
        number = message["number"]
        try:
            content, found = self.answer(message["ask"])
        except Exception as error:  # a callback's traceback would be shown nowhere
            words = str(error) if isinstance(error, Asked) else f"{type(error).__name__}: {error}"
            self.send({"number": number, "error": words})
        else:
            self.send({"number": number, "content": content}, found)

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        return data | {"image/png": _text(self.still())}, metadata


def _style(name: str) -> str:
    return (FOLDER / f"{name}.css").read_text(encoding="utf-8")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()

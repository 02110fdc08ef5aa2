"""What the live views share: a script and a style beside the Python, a still picture, a page."""

import base64
import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import anywidget
from traitlets import Unicode

FOLDER = Path(__file__).parent
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

    Pages ask for more than the state: `answer` gives it. Where no kernel runs, a notebook shows
    `still()`, and a file written by to_html answers what `baked()` lists.
    """

    name: ClassVar[str]  # of NAME.css, and of NAME.js, which ends in what the view exports
    parts: ClassVar[tuple[str, ...]] = ()  # of NAME_PART.js, which come before it
    title = Unicode().tag(sync=True)

    def __init_subclass__(cls, **options: Any) -> None:
        if "name" in vars(cls):  # traitlets make subclasses of their own
            parts = [f"{cls.name}_{part}" for part in cls.parts]
            cls._esm = _read(f"{name}.js" for name in ("widget", *parts, cls.name))
            cls._css = _read(f"{name}.css" for name in ("widget", cls.name))
        super().__init_subclass__(**options)

    def __init__(self, **state: Any) -> None:
        super().__init__(**state)
        self.on_msg(self._asked)

    def close(self) -> None:
        """Ends the view, and its layout, which is a widget that ipywidgets would keep for good."""
        super().close()
        self.layout.close()

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
        """Writes the view as one file that needs neither a kernel nor a network, and returns it."""
        saved = {"esm": self._esm, "state": self._state(), "answers": []}
        for asked in self.baked():
            content, buffers = self.answer(asked)
            saved["answers"].append([asked, content, [_text(buffer) for buffer in buffers]])
        page = PAGE.format(
            title=escape(self.title),
            style=self._css,
            saved=json.dumps(saved).replace("<", "\\u003c"),
            script=_read(["page.js"]),
        )
        path = Path(path)
        path.write_text(page, encoding="utf-8")
        return path

    def _state(self) -> dict:
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


def _read(names: Iterable[str]) -> str:
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()

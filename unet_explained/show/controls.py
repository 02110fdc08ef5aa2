"""A picture with controls: one slider, menu or box for each choice, drawn anew when it is moved."""

import base64
import gc
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import PIL.Image
import torch
from ipywidgets import HTML, Checkbox, Dropdown, Image, Layout, SelectionSlider, VBox
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import ImageDraw, ImageFont

from .png import figure_png, image_png


def captioned(data: bytes, text: str) -> bytes:
    """A PNG with a line of text below it."""
    picture = PIL.Image.open(io.BytesIO(data)).convert("RGB")
    page = PIL.Image.new("RGB", (picture.width, picture.height + 24), "white")
    page.paste(picture)
    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)
    ImageDraw.Draw(page).text((8, picture.height + 3), text, fill="#555555", font=font)
    return image_png(page)


@contextmanager
def tidy() -> Iterator[None]:
    """Frees what is made inside and refers to itself in a circle, as a figure does, at once.

    Left alone, figures grow old and are collected with all that was ever imported: of 60 pictures
    of 110 ms three waited 430 ms more (540,000 objects, those of a kernel that loaded diffusers).
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        if collecting:
            gc.enable()


class Controls(VBox):
    """What `controls` returns. Where no kernel runs, a page shows a picture and its choice."""

    def __init__(
        self, draw: Callable[..., Figure], choices: dict[str, Sequence], first: dict[str, Any]
    ) -> None:
        self._draw, self._choices = draw, choices
        self._drawn: dict[tuple, bytes] = {}  # by the values chosen
        self._inputs = {
            name: _input(name, options, first.get(name, options[0]))
            for name, options in choices.items()
        }
        self._status = HTML()
        self._picture = Image(format="png", value=self._png(), layout=Layout(max_width="100%"))
        for control in self._inputs.values():
            control.observe(self._redraw, "value")
        super().__init__([*self._inputs.values(), self._status, self._picture])

    @property
    def values(self) -> dict[str, Any]:
        """What is chosen now, by name."""
        return {name: control.value for name, control in self._inputs.items()}

    def choose(self, **values: Any) -> None:
        """Moves controls, as a hand would."""
        for name, value in values.items():
            self._inputs[name].value = value

    def _png(self) -> bytes:
        chosen = self.values
        key = tuple(chosen.values())
        if key not in self._drawn:
            # A cell's own setting of gradients does not reach the thread of a callback.
            with torch.no_grad(), tidy():
                self._drawn[key] = figure_png(self._draw(**chosen))
        return self._drawn[key]

    def _redraw(self, _change: dict) -> None:
        if tuple(self.values.values()) not in self._drawn:
            self._status.value = "<em>drawing …</em>"
        try:
            self._picture.value = self._png()
            self._status.value = ""
        except Exception as error:  # a callback's traceback would be shown nowhere
            self._status.value = f"<b>{escape(type(error).__name__)}:</b> {escape(str(error))}"

    def _repr_mimebundle_(self, **options: Any) -> dict:
        bundle = dict(super()._repr_mimebundle_(**options))
        chosen = "   ".join(f"{name}: {value}" for name, value in self.values.items())
        still = captioned(self._picture.value, chosen)
        return bundle | {"image/png": base64.b64encode(still).decode()}


def controls(
    draw: Callable[..., Figure], first: dict[str, Any] | None = None, **choices: Sequence
) -> Controls:
    """`draw(**chosen)`, a Figure, under one control for each of `choices`.

    A choice is the sequence of its values: (False, True) becomes a box to tick, numbers a slider,
    anything else a menu. `first` says where controls start, if not at their first value. A picture
    is drawn once and kept. ValueError for an empty choice, or a start that is not among it.
    """
    choices = {name: tuple(options) for name, options in choices.items()}
    first = first or {}
    if not isinstance(first, dict):
        raise TypeError(
            f"first: expected where controls start, by name, got {first!r}; "
            "no control can be named first"
        )
    for name, options in choices.items():
        if not options:
            raise ValueError(f"{name}: expected at least one value to choose, got none")
        if name in first and first[name] not in options:
            raise ValueError(f"{name}: {first[name]!r} is not one of {options}")
    if unknown := set(first) - set(choices):
        raise ValueError(f"first: no control is named {', '.join(sorted(unknown))}")
    return Controls(draw, choices, first)


def _input(name: str, options: Sequence, value: Any):
    style = {"description_width": "6em"}
    layout = Layout(width="32em", max_width="100%")
    kind = SelectionSlider if all(isinstance(value, int | float) for value in options) else Dropdown
    if all(isinstance(value, bool) for value in options):
        return Checkbox(value=value, description=name, indent=True, style=style)
    return kind(options=options, value=value, description=name, style=style, layout=layout)

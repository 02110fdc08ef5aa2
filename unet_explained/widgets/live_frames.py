"""What is drawn of one step of a running denoising: observed between the modules, sent as bytes."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..model.config import UNetConfig
from ..recording import Word
from ..recording.heatmaps import average, word_map
from ..recording.listen import listening
from ..recording.nested import activity
from ..recording.pairs import Size
from ..recording.shapes import ShapeTable, shape_table
from ..show.geometry import geometry_of
from ..show.lost import largest
from ..show.overlay import GREY
from ..show.panels import Panels
from ..show.picture import Picture
from ..show.png import figure_png

FEWER = 4  # maps come from layers of at most one in four of the latents' pixels: they cost little
NO_MAPS = torch.zeros(0, 1, 1)
NO_NUMBERS = "no preview, as the latents are not finite,"


Look = tuple[np.ndarray, str]  # uint8 (height, width, 3), and in words what it is


class Seen(Protocol):
    """A step that has ended, of whatever pipeline."""

    index: int
    total: int
    timestep: float

    def look(self) -> Look:
        """The picture so far."""

    def beside(self) -> list[Look]:
        """What the network was given and said, as far as it can be seen."""


@dataclass(frozen=True)
class Frame:
    """content: JSON; buffers: preview (height, width, 3), maps (word, height, width), activity, and
    pictures beside the preview, content["beside"].

    Bytes are uint8: of the maps 255 is content["top"], of the activity content["strongest"].
    content["lost"]: the maps, by index, and the modules, by name, that are not finite.
    """

    content: dict
    buffers: list[bytes]

    @property
    def preview(self) -> np.ndarray:
        return np.frombuffer(self.buffers[0], np.uint8).reshape(*self.content["preview"], 3)

    @property
    def maps(self) -> np.ndarray:
        """Attention weights of each word, float (word, height, width); NaN if they were lost."""
        levels = np.frombuffer(self.buffers[1], np.uint8).reshape(self.content["maps"])
        maps = levels / 255 * self.content["top"]
        maps[self.content["lost"]["maps"]] = np.nan
        return maps


class Observer(AbstractContextManager, ABC):
    """Hears some modules of a UNet while `wanted`, and makes a Frame of what it heard."""

    def __init__(self, unet: nn.Module, names: list[str]) -> None:
        self.wanted, self.spent = True, 0.0
        self._parts: dict[str, Tensor] = {}
        self._hooks = listening(unet, names, self._heard)

    def __enter__(self) -> "Observer":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._hooks.close()

    @torch.no_grad()
    def _heard(self, name: str, args: tuple, output) -> None:
        if self.wanted:
            start = perf_counter()
            self.hear(name, args, output)
            self.spent += perf_counter() - start

    def hear(self, name: str, args: tuple, output) -> None:
        self._parts[name] = activity(output)

    @abstractmethod
    def maps(self) -> Float[Tensor, "word height width"]:
        """Of each word, at the last step; none where the words are not known."""

    def frame(self, step: Seen, left: float) -> Frame:
        """left: seconds that the run will still take."""
        preview, about = step.look()
        content = {
            "step": step.index,
            "total": step.total,
            "timestep": step.timestep,
            "left": left,
            "about": about,
            "preview": list(preview.shape[:2]),
        }
        beside = step.beside()
        content["beside"] = [{"about": text, "size": list(x.shape[:2])} for x, text in beside]
        names = list(self._parts)
        maps, top, words = _levels(self.maps())
        activity, strongest, modules = _levels(torch.stack(list(self._parts.values())).cpu())
        content |= {"maps": list(maps.shape), "top": top}
        content |= {"modules": names, "strongest": strongest}
        content |= {"lost": {"maps": words, "modules": [names[i] for i in modules]}}
        arrays = preview, maps, activity, *(picture for picture, _ in beside)
        return Frame(content, [array.tobytes() for array in arrays])


@lru_cache(maxsize=8)  # most pipelines are run more than once
def drawn(config: UNetConfig) -> tuple[dict, tuple[str, ...]]:
    """The U, and the cross-attentions whose maps are drawn."""
    table = shape_table(config)
    return geometry_of(table), tuple(_layers(table))


def _layers(table: ShapeTable) -> list[str]:
    """Those of the way up, where the bundled model's maps point best; all if it has none small."""
    shapes = {row.name: row.tensor.shape for row in table.rows}
    height, width = shapes["conv_in"][-2:]
    found = [name for name in shapes if name.endswith(".attn2")]
    return [
        name for name in found
        if name.startswith("up_blocks") and FEWER * shapes[name][1] <= height * width
    ] or found  # fmt: skip


def plain(size: Size | torch.Size) -> np.ndarray:
    """In the place of a preview, uint8 (height, width, 3)."""
    return np.full((*size, 3), GREY, np.uint8)


def maps_by_word(
    weights: Float[Tensor, "query key"], words: tuple[Word, ...], size: Size
) -> Float[Tensor, "word height width"]:
    """Of one layer."""
    return torch.stack([word_map(weights, [word.tokens], size) for word in words])


def average_by_word(layers: list[Tensor]) -> Float[Tensor, "word height width"]:
    """The mean of such maps of several layers, in the size of the largest."""
    return torch.stack([average(maps) for maps in zip(*layers)]).cpu() if layers else NO_MAPS


def _levels(values: Tensor) -> tuple[np.ndarray, float, list[int]]:
    """As uint8 of the largest finite number, that number, and which are not finite."""
    lost = [i for i, value in enumerate(values) if not value.isfinite().all()]
    values = values.float().nan_to_num(0, 0, 0)
    top = values.max().item() if values.numel() else 0.0
    return (values / (top or 1) * 255).round().to(torch.uint8).numpy(), top, lost


def film_strip(frames: list[Frame], words: list[str], title: str) -> bytes:
    """Previews of up to six steps in a row, and under each the map of the strongest word."""
    if not frames:  # the picture that a notebook keeps is made as its cell ends
        figure = Picture(figsize=(8, 0.6))
        text = (
            "the run had not drawn a step when this was kept: show the view again in a later cell"
        )
        figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=11)
        return figure_png(figure)
    places = np.linspace(0, len(frames) - 1, min(6, len(frames)))
    chosen = [frames[round(place)] for place in places]
    titles = [f"step {f.content['step']}, t = {f.content['timestep']:g}" for f in chosen]
    mapped = len(frames[-1].maps) > 0
    height, width = chosen[0].preview.shape[:2]
    panels = Panels(
        titles + [""] * len(chosen) * mapped, len(chosen), 1.7, height / width,
        title=f"“{title}”", size=9,
    )  # fmt: skip
    for index, frame in enumerate(chosen):
        panels.picture(index, frame.preview)
    if mapped:
        word = int(np.argmax([largest([heat]) for heat in frames[-1].maps]))
        top = largest(frame.maps[word] for frame in chosen)
        for index, frame in enumerate(chosen, len(chosen)):
            panels.map(index, frame.preview, frame.maps[word], top)
        told = f"where pixels look at “{words[word]}”"
        panels.write(len(chosen), told, at="left", fontsize=9)
    return figure_png(panels.figure)

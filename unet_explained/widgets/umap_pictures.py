"""Small pictures of what one module did at one step of a run: arrays in, PNG out, a pixel a place.

The page enlarges them and writes beside them; drawn as Figures they would take ten times as long.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from einops import rearrange, reduce
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from ..recording.nested import first
from ..show.colours import ATTENTION, MARK, SIGNED
from ..show.features import principal_colours
from ..show.lost import in_words, largest, striped
from ..show.png import image_png, thumbnail
from .subject import Subject
from .subject_maps import WordMaps
from .widget import Asked

SMALL = 24  # places of a side of what is drawn in a box of the map
SIDE = 160  # pixels of the subject's own picture, beside its maps

Tiles = tuple[list[str], list[bytes]]  # a line of text and a PNG for each


def png(picture: np.ndarray) -> bytes:
    """uint8 (height, width, 3) as a file."""
    return image_png(Image.fromarray(picture))


def coloured(values: np.ndarray, colours: str, low: float, high: float) -> np.ndarray:
    """Numbers (height, width) through a colour map whose ends are low and high, as for png();
    striped where they are not finite."""
    lost = ~np.isfinite(values)
    scaled = (np.where(lost, low, values) - low) / max(high - low, 1e-12)
    picture = colormaps[colours](np.clip(scaled, 0, 1), bytes=True)[..., :3]
    picture[lost] = striped(lost)[lost][:, :3]
    return picture


def as_maps(output: Tensor, axes: Sequence[str], size: tuple[int, int] | None) -> np.ndarray:
    """One picture's output as float32 (channel, height, width); axes: of the batch's output; size:
    of a sequence of pixels. Raises Asked for what is no map."""
    one, height_width = output.float(), dict(zip(("height", "width"), size or ()))
    if tuple(axes[1:]) == ("channel", "height", "width"):
        return one.numpy()
    if size is None or "query" not in axes:
        raise Asked("It has no height and width, so there is no picture of it.")
    if one.ndim == 3:
        one = rearrange(one, "head query head_dim -> query (head head_dim)")
    return rearrange(one, "(height width) channel -> channel height width", **height_width).numpy()


def feature_tiles(features: np.ndarray, first: int, count: int) -> Tiles:
    """All channels in three colours, then `count` channels: red above 0, blue below."""
    texts, files = ["all channels: like colours, like features"], []
    files.append(png(principal_colours(features)))
    for index, values in enumerate(features[first : first + count], first):
        reach = largest([np.abs(values)]) or 1.0
        texts.append(f"channel {index}, {in_words(values, f'to ±{reach:.3g}')}")
        files.append(png(coloured(values, SIGNED, -reach, reach)))
    return texts, files


def word_tiles(source: WordMaps, step: int, layer: str) -> Tiles:
    """The picture, then for each word of the prompt who looked at it, all on one scale; where
    nobody said the text, for each token, on its own.

    The mean over heads, and over the layers that the glob `layer` fits.
    """
    half = source.subject.half(source.subject.first, step)
    maps = source.maps(layer, None, step, half).numpy()
    outside = ("start", "rest")
    pairs = [pair for pair in zip(source.columns[half], maps) if pair[0].kind not in outside]
    if not pairs:
        raise Asked("The prompt has no words to look at.")
    texts, files = _own(source.subject)
    top = largest(heat for _, heat in pairs)
    for (text, kind, _), heat in pairs:
        high = largest([heat])
        texts.append(f"{text}, {in_words(heat, f'to {high:.2g}')}")
        files.append(png(coloured(heat, ATTENTION, 0, top if kind == "word" else high)))
    return texts, files


def place_tiles(source: WordMaps, step: int, layer: str) -> Tiles:
    """The picture, then where nine places of it look, each on its own scale and with its own place
    marked; means over heads."""
    subject = source.subject
    half = subject.half(subject.first, step)
    recording, run, at, _ = source.pairs(step, half, step)
    if layer not in recording.runs[run].self_layers:
        raise Asked(f"Nothing was recorded of {layer}.")
    height, width = recording.runs[run].self_layers[layer]
    look = partial(recording.self_attention, layer=layer, step=at, run=run, half=half)
    texts, files = _own(subject)
    for row in _thirds(height):
        for column in _thirds(width):
            values = look(pixel=(row, column), picture=subject.picture).numpy()
            high = largest([values])
            picture = coloured(values, ATTENTION, 0, high)
            picture[row, column] = [int(MARK[i : i + 2], 16) for i in (1, 3, 5)]
            texts.append(f"from row {row}, column {column}, {in_words(values, f'to {high:.2g}')}")
            files.append(png(picture))
    return texts, files


def output_of(subject: Subject, step: int, name: str) -> Tensor:
    """What a module returned at a step for the subject's picture; of a tuple, the first."""
    half = subject.half(subject.first, step)
    output = subject.run.steps[step].values.get(name)
    if output is None:
        output = subject.replay(step, name, attention=None)[name][0]
    tensor = first(output)
    if tensor is None:
        raise Asked("It gives no tensor, so there is no picture of it.")
    return tensor[subject.rows[half][step]]


def through(
    subject: Subject, step: int, shapes: dict[str, tuple[list[str], tuple[int, int] | None]]
) -> tuple[list[str], list[bytes]]:
    """Which modules gave a map at a step, and of each a picture: like colours, like features.

    shapes: of each module, in order, what as_maps() takes.
    """
    half = subject.half(subject.first, step)
    row, names, files = subject.rows[half][step], [], []
    replay = subject.replay(step, *shapes, attention=None)
    for name, (axes, size) in shapes.items():
        tensor = first(replay[name][0])
        if tensor is None or (size is None and "height" not in axes):
            continue
        features = as_maps(tensor[row], axes, size)
        names.append(name)
        files.append(png(principal_colours(_reduced(features))))
    return names, files


def _reduced(features: np.ndarray) -> np.ndarray:
    """To at most SMALL places a side, each the mean of those that it stands for."""
    times = -(-max(features.shape[1:]) // SMALL)
    high, wide = (size // times * times for size in features.shape[1:])
    blocks = "channel (height down) (width across) -> channel height width"
    return reduce(features[:, :high, :wide], blocks, "mean", down=times, across=times)


def answers_of(source: WordMaps) -> dict[str, Any]:
    """Whether activity, maps of words (cross) and of places (self) can be had at any step, and
    features of which modules: None for all."""
    subject, half = source.subject, source.subject.first
    steps = range(len(subject.timesteps))
    replayable = any(map(subject.replayable, steps))
    return dict(
        through=replayable,
        activity=any(has_activity(subject, step) for step in steps),
        features=None if replayable else list(subject.run.steps[0].values),
        cross=any(source.can(None, step, half) for step in subject.rows[half]),
        self=source.can_look(half),
    )


def has_activity(subject: Subject, step: int) -> bool:
    return bool(subject.run.steps[step].stats) or subject.replayable(step)


def activity_of(subject: Subject, step: int) -> dict[str, float]:
    """The root mean square of what each module returned at a step, the first time that it ran."""
    stats = subject.run.steps[step].stats
    stats = stats or subject.replay(step, attention=None, stats=True).runs[0].steps[0].stats
    return {name: math.hypot(one.mean, one.std) for name, one in stats.items()}


def _own(subject: Subject) -> Tiles:
    """The picture, if there is one."""
    image = subject.image
    return ([], []) if image is None else (["the picture"], [image_png(thumbnail(image, SIDE))])


def _thirds(size: int) -> list[int]:
    """The middle of each third."""
    return sorted({size * part // 6 for part in (1, 3, 5)})

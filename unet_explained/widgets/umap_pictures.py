"""Small pictures of what one module did at one step of a run: arrays in, PNG out, a pixel a place.

The page enlarges them and writes beside them; drawn as Figures they would take ten times as long.
"""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from ..run.denoise import Run
from ..show.attention_plots import FRAME
from ..show.colours import ATTENTION
from ..show.features import SIGNED, principal_colours
from ..show.plots import word_maps
from ..show.png import image_png, thumbnail
from .widget import Asked

SIDE = 160  # pixels of the run's own picture, beside its maps

Tiles = tuple[list[str], list[bytes]]  # a line of text and a PNG for each


def png(picture: np.ndarray) -> bytes:
    """uint8 (height, width, 3) as a file."""
    return image_png(Image.fromarray(picture))


def coloured(values: np.ndarray, colours: str, low: float, high: float) -> np.ndarray:
    """Numbers (height, width) through a colour map whose ends are low and high, as for png()."""
    scaled = (values - low) / max(high - low, 1e-12)
    return colormaps[colours](np.clip(scaled, 0, 1), bytes=True)[..., :3]


def as_maps(output: Tensor, axes: Sequence[str], size: tuple[int, int] | None) -> np.ndarray:
    """The last of the batch as float32 (channel, height, width); size: of a sequence of pixels.

    Under guidance that is the half which was given the prompt. Raises Asked for what is no map.
    """
    one, height_width = output[-1].float(), dict(zip(("height", "width"), size or ()))
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
        reach = float(np.abs(values).max()) or 1.0
        texts.append(f"channel {index}, to ±{reach:.3g}")
        files.append(png(coloured(values, SIGNED, -reach, reach)))
    return texts, files


def word_tiles(run: Run, step: int, layer: str) -> Tiles:
    """The picture, then for each word of the prompt who looked at it, all on one scale.

    The mean over heads, and over the layers that the glob `layer` fits.
    """
    maps = word_maps(run.replay(step), layer=layer)
    if not maps:
        raise Asked("The prompt has no words to look at.")
    top = max(float(heat.max()) for heat in maps)
    texts = [f"{word}, to {heat.max():.2g}" for word, heat in zip(run.prompt.words, maps)]
    files = [png(coloured(heat, ATTENTION, 0, top)) for heat in maps]
    return ["the picture", *texts], [image_png(thumbnail(run.image, SIDE)), *files]


def place_tiles(run: Run, step: int, layer: str) -> Tiles:
    """The picture, then where nine places of it look, each on its own scale and with its own place
    marked; means over heads."""
    recording = run.replay(step, self_attention=True, attention=None)
    height, width = recording.runs[0].self_layers[layer]
    texts, files = ["the picture"], [image_png(thumbnail(run.image, SIDE))]
    for row in _thirds(height):
        for column in _thirds(width):
            values = recording.self_attention(layer=layer, pixel=(row, column)).numpy()
            picture = coloured(values, ATTENTION, 0, float(values.max()))
            picture[row, column] = [int(FRAME[i : i + 2], 16) for i in (1, 3, 5)]
            texts.append(f"from row {row}, column {column}, to {values.max():.2g}")
            files.append(png(picture))
    return texts, files


def output_of(run: Run, step: int, name: str) -> Tensor:
    """What a module returned at a step; of a tuple, the first."""
    output = run.replay(step, name, attention=None)[name][0]
    while not isinstance(output, torch.Tensor):
        output = output[0]
    return output


def _thirds(size: int) -> list[int]:
    """The middle of each third."""
    return sorted({size * part // 6 for part in (1, 3, 5)})

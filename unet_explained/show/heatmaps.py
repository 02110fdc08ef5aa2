"""Word maps over a picture: of a run's words, of layers and heads, beside the truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from ..recording import Recording
from ..recording.heatmaps import resize
from ..recording.patterns import pick
from ..run.pictures import as_image
from ..words import brief
from .colours import ATTENTION
from .lost import in_words, largest
from .overlay import GREY, Place, shrunk
from .panels import GAP, Panels
from .picture import Picture

WHERE = ("layer", "head", "step", "run", "picture", "half", "method")
HIT, MISS = ("o", "#5fe05f"), ("x", "black")  # a ring, a cross: told apart without colour as well


def plot_heatmaps(
    run, recording, /, *, words: Sequence[str] | None = None, same_scale: bool = True, **where
) -> Picture:
    """The picture and one map for each word of its prompt.

    run: a Run, what a diffusers pipeline gave, or its pictures, of which picture= is drawn; or one
    picture that PIL or numpy reads. Of all but a Run the words are the record's.
    words: those alone, each as for Recording.attention: several in a row are one map.
    same_scale: one scale for all words, so that strong words look strong; else each word its own.
    where: layer=, head=, step=, run=, picture=, half= and method= as for Recording.attention; of
    several recorded runs a Run finds itself.
    """
    if other := [name for name in where if name not in WHERE]:
        takes = ", ".join(f"{name}=" for name in ("words", "same_scale", *WHERE))
        raise TypeError(
            f"plot_heatmaps has no {other[0]}=; it takes {takes}. For colours or axes of your own "
            "draw rec.attention(word) itself: axis.imshow(rec.attention(word), cmap=...)"
        )
    if not isinstance(recording, Recording):
        kind = "None" if recording is None else f"a {type(recording).__name__}"
        raise TypeError(f"expected a Recording, which `with record(...) as rec` gives, got {kind}")
    own = getattr(run, "recording", None)
    origins = [recorded.origin for recorded in recording.runs]
    if own and own.runs[0].origin in origins:
        where = {"run": origins.index(own.runs[0].origin)} | where
    words = [words] if isinstance(words, str) else words
    if not (words is None or (isinstance(words, Sequence) and words)):
        raise TypeError(f"words: expected a word, or several in a list, got {brief(words)}")
    text = recorded_text(recording, where)
    if words is None:
        titles, maps = text.words, word_maps(recording, **where)
    else:
        titles, maps = words, [recording.attention(w, **where).cpu().numpy() for w in words]
    if not maps:
        raise ValueError(f"the prompt {text.text!r} has no words that maps could be of")
    seen = np.asarray(as_image(_picture_of(run, where.get("picture"))))
    return heatmap_grid(seen, titles, maps, title=text.text, same_scale=same_scale)


def _picture_of(made: Any, number: int | None) -> Any:
    """Of a Run its picture, which is decoded only now; of a pipeline's pictures the chosen one."""
    pictures = getattr(made, "images", made)
    if not (isinstance(pictures, list | tuple) or getattr(pictures, "ndim", 0) == 4):
        return getattr(pictures, "image", pictures)
    if number is None and len(pictures) != 1:
        raise ValueError(f"image: {len(pictures)} pictures, and one is drawn: pass picture=")
    return pick(pictures, number or 0, "picture")


def word_maps(recording, **where) -> list[np.ndarray]:
    """One map for each word of a recorded prompt; of a repeated word, one for each occurrence.

    where: as for Recording.attention.
    """
    text = recorded_text(recording, where)
    return [
        recording.attention(word, occurrence=text.words[:index].count(word), **where).cpu().numpy()
        for index, word in enumerate(text.words)
    ]


def recorded_text(recording, where: dict):
    """The text that a choice of Recording.attention speaks of."""
    return recording.text(**{key: where[key] for key in ("run", "half", "picture") if key in where})


def heatmap_grid(
    image: np.ndarray | None,
    titles: Sequence[str],
    maps: Sequence[np.ndarray],
    *,
    title: str = "",
    same_scale: bool = True,
) -> Picture:
    """A picture, uint8 (height, width, 3), and maps, float (height, width), laid over it in grey.

    The number under a map is its largest weight: what the colour bar's end stands for. Without a
    picture the maps alone are drawn, over a plain grey. What is not finite is striped, and said.
    """
    seen = np.full((*maps[0].shape, 3), GREY, np.uint8) if image is None else image
    first = [] if image is None else [""]  # whose words look otherwise
    panels = Panels(
        [*first, *titles], 5, 2.2, seen.shape[0] / seen.shape[1], title=f"“{title}”" * bool(title),
        size=12, bold=True, under=0.2, beside=1.0,
    )  # fmt: skip
    if image is not None:
        panels.picture(0, image)
        panels.write(0, "the picture", fontsize=11, style="italic")
    top = largest(maps)
    for index, values in enumerate(maps, len(first)):
        panels.map(index, seen, values, top if same_scale else largest([values]))
        panels.remark(index, in_words(values, f"max {values.max():.3f}"))
    scale = ScalarMappable(Normalize(0, (top if same_scale else 0) or 1), ATTENTION)
    shared = "attention to the word", "attention, share of each map's maximum"
    panels.colour_bar(scale, shared[not same_scale])
    return panels.figure


def map_grid(
    image: np.ndarray,
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    title: str = "",
    columns: int = 6,
    truths: Sequence[np.ndarray] | None = None,
    same_scale: bool = False,
    side: float = 2.6,
) -> Picture:
    """Small maps over the picture, each with its largest value, or all on one scale.

    truths: masks, bool (height, width) of the image: outlined, with a sign where the map points.
    side: the most inches that a map is wide.
    """
    image, top, peaks = shrunk(image), largest(maps), [largest([values]) for values in maps]
    words = [in_words(values, f"max {peak:.3f}") for values, peak in zip(maps, peaks)]
    panels = Panels(
        [f"{text}\n{number}" for text, number in zip(titles, words)], columns,
        min(side, 10 / min(columns, len(maps)) - GAP), image.shape[0] / image.shape[1],
        title=title, size=9,
    )  # fmt: skip
    for index, (values, peak) in enumerate(zip(maps, peaks)):
        panels.map(index, image, values, top if same_scale else peak)
        if truths is not None:
            _truth(panels.axis, panels.places[index], np.asarray(values), truths[index])
    return panels.figure


def _truth(axis, place: Place, values: np.ndarray, mask: np.ndarray) -> None:
    """The outline of a mask, and where the map is largest: a ring if inside, else a cross."""
    (left, right, lower, upper), (height, width) = place, mask.shape

    def across(x):
        return left + (x + 0.5) / width * (right - left)

    def down(y):
        return upper + (y + 0.5) / height * (lower - upper)

    thin = slice(None, None, max(1, height // 128))  # an outline of thousands of corners takes long
    columns, rows = across(np.arange(width)[thin]), down(np.arange(height)[thin])
    outline = mask[thin, thin].astype(float)
    axis.contour(columns, rows, outline, [0.5], colors="white", linewidths=1.2)
    whole = resize(torch.as_tensor(values).float(), mask.shape)
    y, x = divmod(int(whole.argmax()), width)
    marker, colour = HIT if mask[y, x] else MISS
    sign = dict(marker=marker, fillstyle="none", clip_on=False, zorder=5)  # whole, also at an edge
    axis.plot(across(x), down(y), color="white", markersize=12, markeredgewidth=5, **sign)
    axis.plot(across(x), down(y), color=colour, markersize=12, markeredgewidth=2.5, **sign)


def maps_over(
    image: np.ndarray,
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    top: float | None = None,
    pixel: tuple[int, int] | None = None,
) -> Picture:
    """The picture (PIL, or uint8 (height, width, 3)) and attention maps over it, on one scale.

    top: the end of the scale, by default the largest value. pixel: a (row, column) to be framed.
    """
    image = shrunk(np.asarray(image))
    panels = Panels(["the picture", *titles], 3, 3.0, image.shape[0] / image.shape[1])
    panels.picture(0, image)
    top = largest(maps) if top is None else top
    for index, values in enumerate(maps, 1):
        panels.map(index, image, values, top)
    if pixel is not None:
        for index in range(len(maps) + 1):
            panels.frame(index, pixel, maps[0].shape)
    return panels.figure

"""Word maps as files: for each word a PNG and the numbers, and what they are of."""

import re
from pathlib import Path

import numpy as np

from ..json_file import as_json
from ..run.pictures import as_image
from ..writing import try_folder, written_folder
from .heatmaps import recorded_text, word_maps
from .lost import largest
from .overlay import draw_map
from .picture import Picture

LONGEST = 40  # characters of a word in the name of its file, which may have 255 bytes
DPI = 64  # a power of two: pixels / DPI * DPI is again whole, which matplotlib 3.9 cuts off


def export_heatmaps(image, recording, folder: str | Path, **where) -> Path:
    """Into a new folder: 01-word.png over the picture, 01-word.npz (`heat`), metadata.json.

    image: a picture of any size that PIL or numpy reads, or a file's name. where: as for
    Recording.attention. Written aside and renamed. Raises FileExistsError for a folder that is
    there, another OSError for a place that cannot be written, ValueError for what is no picture,
    and what Recording.attention raises, before anything is written.
    """
    folder, pixels = try_folder(folder), np.asarray(as_image(image))
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: name a new folder")
    text, maps = recorded_text(recording, where), word_maps(recording, **where)
    top = largest(maps)
    words = []
    with written_folder(folder) as new:
        for number, (word, heat) in enumerate(zip(text.spans, maps, strict=True), 1):
            name = f"{number:02}-" + re.sub(r"[^\w-]", "_", word.text)[:LONGEST]
            _overlay(pixels, heat, top).savefig(new / f"{name}.png", dpi=DPI)
            np.savez_compressed(new / f"{name}.npz", heat=heat)
            finite = bool(np.isfinite(heat).all())
            words.append({"word": word.text, "tokens": word.tokens, "file": name, "finite": finite})
        about = {"prompt": text.text, "where": where, "scale": [0.0, top], "words": words}
        written = as_json(about, indent=2, default=str)
        (new / "metadata.json").write_text(f"{written}\n", encoding="utf-8")
    return folder


def _overlay(image: np.ndarray, heat: np.ndarray, top: float) -> Picture:
    """One map over the picture, as large as the picture."""
    height, width = image.shape[:2]
    figure = Picture(figsize=(width / DPI, height / DPI))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    draw_map(axis, image, heat, top)
    return figure

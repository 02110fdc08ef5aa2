"""The bundled model's own pictures, from an evaluation's folder and a training's: arrays in."""

import json
from math import ceil
from pathlib import Path
from textwrap import fill

import numpy as np
from PIL import Image

from training.card import AVERAGE, pointing_shares
from training.score import held_out_scene
from unet_explained.bundled.draw import render
from unet_explained.run.checkpoints import load
from unet_explained.show.picture import Picture

LOGS = {  # the longer stages of the shipped weights
    "inner": "inner: 16 x 16",
    "middle": "middle: 32 x 32",
    "whole": "whole: 64 x 64",
    "windows": "with windows, 32 x 32",
    "late": "with windows, late",
    "kinds": "told windows, Muon",
    "stable": "stable target of windows",
    "scenes": "stable target of scenes too",
    "threes": "half of the scenes of three things",
    "reads": "the text encoder reads on",
    "fresh": "on a GPU, scenes always new",
}
SIDE = 96  # of one picture in a sheet, in pixels


def samples(evaluation: Path, count: int = 64, columns: int = 8) -> Picture:
    """The first pictures of an evaluation on the left, the drawings asked for on the right."""
    count = min(count, len(rows_of(evaluation))) // columns * columns
    painted = [_open(evaluation, index) for index in range(count)]
    drawn = [render(held_out_scene(index)[0], SIDE) for index in range(count)]
    sheet = np.concatenate([_sheet(painted, columns), _sheet(drawn, columns)], axis=1)
    figure = Picture(figsize=(16.4, 0.6 + count // columns))
    figure.set_layout_engine("compressed")
    axis = figure.subplots()
    axis.imshow(sheet)
    axis.axvline(sheet.shape[1] / 2, color="white", linewidth=6)
    axis.set_xticks([sheet.shape[1] / 4, sheet.shape[1] * 3 / 4])
    axis.set_xticklabels(["painted by the bundled model", "the scenes that were asked for"])
    axis.set_yticks([])
    axis.tick_params(length=0, labelsize=13)
    axis.spines[:].set_visible(False)
    return figure


def failures(evaluation: Path, count: int = 8) -> Picture:
    """The first pictures with something wrong, their captions and what is wrong."""
    rows = rows_of(evaluation)
    wrong = [(index, faults(row)) for index, row in enumerate(rows) if faults(row)][:count]
    figure = Picture(figsize=(10, 2.9 * ((len(wrong) + 3) // 4)))
    figure.set_layout_engine("compressed")
    axes = figure.subplots(max(1, (len(wrong) + 3) // 4), 4, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (index, what) in zip(axes, wrong):
        axis.imshow(_open(evaluation, index))
        axis.set_title(fill(rows[index]["prompt"], 34), fontsize=8, parse_math=False)
        axis.text(0.5, -0.04, fill(what, 34), transform=axis.transAxes, ha="center", va="top",
                  fontsize=8, color="#b3261e")  # fmt: skip
    return figure


def pointing(evaluation: Path) -> Picture:
    """Where the words' maps point at their things: a row a layer, a column a timestep."""
    rows = rows_of(evaluation)
    names, times = [*rows[0]["layers"], AVERAGE], list(rows[0]["rendered"])
    figure = Picture(figsize=(11, 0.34 * len(names) + 1.2))
    figure.set_layout_engine("compressed")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, role in zip(axes, ("noun", "colour")):
        shares = 100 * np.array(pointing_shares(rows, role))
        drawn = axis.imshow(shares, "viridis", vmin=0, vmax=100, aspect="auto")
        axis.set_xticks(range(len(times)), times)
        axis.set_yticks(range(len(names)), [name.removesuffix(".attn2") for name in names])
        axis.set_xlabel("timestep of the noised scene")
        axis.set_title(f"{role}s: maps that peak on their thing, %", fontsize=11)
        axis.axhline(len(names) - 1.5, color="white", linewidth=3)
        for (row, column), share in np.ndenumerate(shares):
            colour = "black" if share > 55 else "white"
            axis.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour)
    figure.colorbar(drawn, ax=axes.tolist(), shrink=0.5, pad=0.01)
    return figure


def training(logs: Path) -> Picture:
    """The loss of each stage of the UNet's training against the samples that it had seen."""
    figure = Picture(figsize=(18, 5.4))
    figure.set_layout_engine("compressed")
    axes = figure.subplots(2, ceil(len(LOGS) / 2))  # of other timesteps: no common scale
    for axis in axes.flat[len(LOGS) :]:
        axis.set_axis_off()
    for axis, (name, title) in zip(axes.flat, LOGS.items()):
        points = [json.loads(line) for line in (logs / f"{name}.jsonl").open()]
        axis.plot([p["samples"] for p in points], [p["loss"] for p in points], color="#2a9d8f")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("samples")
        axis.locator_params(axis="x", nbins=5)
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss, smoothed")
    return figure


REFERENCE = {  # name: prompt and seed; kept in tests/reference
    "circle_and_square": ("a red circle left of a blue square", 0),
    "house_and_tree": ("a yellow house below a green tree on a pink ground", 1),
    "fish": ("a large orange fish in the middle", 2),
}


def reference(name: str) -> Image.Image:
    """A picture that a test compares with the kept one: 10 steps, made small."""
    prompt, seed = REFERENCE[name]
    return load(device="cpu")(prompt, steps=10, seed=seed).image.resize((128, 128))


def rows_of(evaluation: Path) -> list[dict]:
    return [json.loads(line) for line in (evaluation / "rows.jsonl").read_text().splitlines()]


def faults(row: dict) -> str:
    """What a graded picture lacks, in words."""
    lacks = {
        "colour": not all(row["colour"]),
        "kind": not all(row["kind"]),
        "place": not all(row["place"]),
        "relation": not row.get("relation", True),
        "number of things": row["shown"] != len(row["things"]),
    }
    return ", ".join(name for name, lacking in lacks.items() if lacking)


def _open(evaluation: Path, index: int) -> np.ndarray:
    picture = Image.open(evaluation / "pictures" / f"{index:05d}.png")
    return np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    rows = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    return np.concatenate(rows)

"""Three definitions of a word's map, graded on scenes of which the truth is known."""

from random import Random

import torch
from torch import Tensor

import unet_explained as ux
from unet_explained.bundled.captions import describe, spoken
from unet_explained.bundled.draw import masks, render
from unet_explained.bundled.world import sample_scene
from unet_explained.lessons.definitions import summed
from unet_explained.recording.heatmaps import iou, pointing_game, resize

SCENES = 100
T = 500


def definitions(rounds: int) -> str:
    """How often each points into its thing, how well it covers it, and how like ours it is.

    rounds: not heeded, nothing is timed here. One forward at t = 500 of each held-out scene.
    """
    pipe, truth_side = ux.load(), 64
    found: dict[str, list[tuple[bool, float, float]]] = {}
    for number in range(SCENES):
        rng = Random(f"maps/{number}")
        scene = sample_scene(rng, "held_out")
        caption = describe(scene, rng)
        truth = torch.from_numpy(masks(scene, truth_side))
        rec = ux.maps_of(pipe, render(scene, 512), caption.text, t=T, attention="heads")
        for index, noun, occurrence in spoken(caption, "noun"):
            maps = {
                "ours: means of heads, then of layers": rec.attention(noun, occurrence=occurrence),
                "DAAM: all heads of all layers, bicubic, without mid and lowest level": (
                    rec.attention(noun, occurrence=occurrence, method="daam")
                ),
                "attention-map-diffusers: sums of heads, mean of layers": summed(
                    rec, noun, occurrence
                ),
            }
            ours = next(iter(maps.values()))
            for name, heat in maps.items():
                grades = pointing_game(heat, truth[index]), iou(heat, truth[index])
                found.setdefault(name, []).append((*grades, _likeness(heat, ours)))
    lines = [
        f"| {name} | {sum(p for p, _, _ in rows) / len(rows):.1%} "
        f"| {sum(i for _, i, _ in rows) / len(rows):.3f} "
        f"| {min(r for _, _, r in rows):.3f} to {max(r for _, _, r in rows):.3f} |"
        for name, rows in found.items()
    ]
    count = len(next(iter(found.values())))
    head = f"## A word's map by three definitions: {count} things of {SCENES} scenes, t = {T}\n"
    columns = "| | points into its thing | IoU | correlation with ours |\n|---|---|---|---|"
    return "\n".join([head, columns, *lines, ""])


def _likeness(heat: Tensor, ours: Tensor) -> float:
    """Pearson's correlation of the two maps, pixel by pixel."""
    both = torch.stack([resize(heat, ours.shape).flatten(), ours.flatten()])
    return torch.corrcoef(both)[0, 1].item()

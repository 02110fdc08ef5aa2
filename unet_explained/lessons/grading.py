"""Word maps beside the truth: scenes of the small world, noised, looked at and graded."""

from collections.abc import Iterator
from functools import partial

import torch

from ..bundled.captions import Caption, spoken
from ..bundled.draw import masks, render
from ..bundled.world import Scene
from ..recording.heatmaps import iou, pointing_game
from ..run.denoise import Pipeline
from ..run.look import maps_of


def grade_maps(pipe: Pipeline, scene: Scene, caption: Caption, timestep: int) -> Iterator[dict]:
    """For each thing and each layer, and for all layers' mean: does its noun's map find it?"""
    recording = maps_of(pipe, render(scene, 512), caption.text, t=timestep)
    truth = torch.from_numpy(masks(scene, 64))
    for index, noun, occurrence in spoken(caption, "noun"):
        read = partial(recording.attention, noun, occurrence=occurrence)
        area = truth[index].float().mean().item()
        for layer in (*recording.layers, None):
            heat = read(layer=layer)
            yield {
                "layer": layer or "mean of all layers",
                "noun": noun,
                "points": pointing_game(heat, truth[index]),
                "iou": iou(heat, truth[index]),
                "chance": area,
            }

"""What one held-out caption scores: its picture is painted and judged, and its words' maps graded.

Held-out scenes are drawn as world.py says; the masks of their drawings are the truth for the maps.
"""

from collections.abc import Iterator
from functools import partial
from random import Random

import numpy as np
import torch
from PIL.Image import Image

from unet_explained.bundled.captions import Caption, describe, spoken
from unet_explained.bundled.draw import masks, render
from unet_explained.bundled.world import KINDS, Scene, Thing, held_out_pair, relation, sample_scene
from unet_explained.recording import Recording, record
from unet_explained.recording.heatmaps import iou, pointing_game
from unet_explained.run.denoise import Pipeline
from unet_explained.run.look import maps_of
from unet_explained.run.text import embed, read_prompt

from .autoencoder import to_pictures, to_tensor
from .judge import SIDE, Found, judge_picture, match

TIMES = (900, 700, 500, 300, 100)  # the timesteps to which rendered scenes are noised
KIND_AT = (800, 700, 600)  # where kinds are decided


def held_out_scene(index: int) -> tuple[Scene, Random]:
    """The scene of that number in an evaluation, and the random numbers of what follows from it."""
    rng = Random(f"evaluation/0/{index}")
    return sample_scene(rng, "held_out"), rng


def score_caption(pipe: Pipeline, index: int, steps: int) -> tuple[dict, Image]:
    """One held-out scene: its picture, what that shows and where the words of its caption look."""
    scene, rng = held_out_scene(index)
    caption = describe(scene, rng)
    with record(pipe.unet, attention="sum") as recording:
        run = pipe(caption.text, steps=steps, seed=index)
    shown = judge_picture(np.asarray(run.image))[1]
    found = match(shown, scene.things)
    row = {"prompt": caption.text, "shown": len(shown), **_painted(scene, caption, found)}
    right = [
        blob.mask if blob and _same(blob, thing) else None
        for blob, thing in zip(found, scene.things, strict=True)
    ]
    row["layers"] = list(recording.layers)
    row["sampled"] = list(_pointing(recording, caption, right))
    looked = maps_of(pipe, render(scene, 512), caption.text, t=TIMES)
    truth = list(masks(scene, SIDE))
    row["rendered"] = {
        str(time): list(_pointing(looked, caption, truth, picture))
        for picture, time in enumerate(TIMES)
    }
    row["kind_word"] = worth_of_kind(pipe, scene, caption, rng)
    return row | _judged(pipe, scene), run.image


def _same(blob: Found, thing: Thing) -> bool:
    return (blob.thing.colour, blob.thing.kind) == (thing.colour, thing.kind)


def _painted(scene: Scene, caption: Caption, found: list[Found | None]) -> dict:
    """Whether each thing came out in its colour and kind, and the places and the relation told."""
    pairs = list(zip(found, scene.things, strict=True))
    row = {
        "things": [thing.kind for thing in scene.things],
        "unseen": [held_out_pair(thing.colour, thing.kind) for thing in scene.things],
        "colour": [bool(blob and blob.thing.colour == thing.colour) for blob, thing in pairs],
        "kind": [bool(blob and blob.thing.kind == thing.kind) for blob, thing in pairs],
        "place": [
            bool(blob and blob.thing.place == place)
            for blob, place in zip(found, caption.places, strict=True)
            if place
        ],
    }
    if caption.relation:
        first, how, second = caption.relation
        one, other = found[first], found[second]
        row["relation"] = bool(one and other and relation(one.thing, other.thing) == how)
    return row


def _pointing(
    recording: Recording, caption: Caption, truth: list, picture: int | None = None
) -> Iterator[dict]:
    """Pointing game and IoU of each thing's words, for the things that have a mask."""
    for role in ("noun", "colour"):
        for index, word, occurrence in spoken(caption, role):
            if truth[index] is None:
                continue
            read = partial(recording.attention, word, occurrence=occurrence, picture=picture)
            mask = torch.from_numpy(np.asarray(truth[index]))
            area = mask.float().mean().item()
            yield {
                "role": role,
                "points": pointing_game(read(), mask),
                "layers": [pointing_game(read(layer=name), mask) for name in recording.layers],
                "iou": iou(read(), mask),
                "area": area,
                "chance_iou": area / (2 - area),
            }


@torch.no_grad()
def worth_of_kind(
    pipe: Pipeline, scene: Scene, caption: Caption, rng: Random
) -> dict[str, list[float]]:
    """What a kind's word is worth, by timestep: [error with it, error with another kind's].

    Mean squared errors of the velocity in a rendered scene, within two radii around one thing.
    """
    index = rng.randrange(len(scene.things))
    thing, noun = scene.things[index], caption.nouns[index]
    other = rng.choice([kind for kind in KINDS if kind != thing.kind])
    said = f"{thing.colour} {noun}"
    texts = caption.text, caption.text.replace(said, f"{thing.colour} {other}", 1)
    prompts = [read_prompt(text, pipe.tokenizer) for text in texts]
    context = torch.cat([embed(prompt, pipe.text_encoder) for prompt in prompts])
    mean = pipe.vae.encode(to_tensor([render(scene, 512)])).latent_dist.mean
    latents = (mean * pipe.vae.config.scaling_factor).expand(2 * len(KIND_AT), -1, -1, -1)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    one = torch.randn(latents[:1].shape, generator=generator)
    noise, times = one.expand_as(latents), torch.tensor(KIND_AT).repeat_interleave(2)
    noisy = pipe.scheduler.add_noise(latents, noise, times)
    output = pipe.unet(noisy, times, context.repeat(len(KIND_AT), 1, 1)).sample
    missed = (output - pipe.scheduler.get_velocity(latents, noise, times)).square()
    side, reach = missed.shape[-1], 2 * thing.radius
    rows, columns = (
        slice(round(side * max(at - reach, 0)), round(side * (at + reach)))
        for at in (thing.y, thing.x)
    )
    errors = missed[:, :, rows, columns].mean((1, 2, 3)).view(len(KIND_AT), 2)
    return {str(time): pair.tolist() for time, pair in zip(KIND_AT, errors, strict=True)}


@torch.no_grad()
def _judged(pipe: Pipeline, scene: Scene) -> dict:
    """Whether the judge knows each thing in the true picture and in its round trip."""
    picture = render(scene, 512)
    latents = pipe.vae.encode(to_tensor([picture])).latent_dist.mean
    back = to_pictures(pipe.vae.decode(latents).sample)[0]
    return {
        "judge_render": _recognised(picture, scene),
        "judge_round_trip": _recognised(back, scene),
    }


def _recognised(picture: np.ndarray, scene: Scene) -> list[bool]:
    found = match(judge_picture(picture)[1], scene.things)
    return [bool(blob and _same(blob, thing)) for blob, thing in zip(found, scene.things)]

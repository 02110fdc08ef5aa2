"""Grades the bundled pipeline: python -m unet_explained.bundled.evaluate

Held-out captions are painted and judged, and the words' heatmaps are compared with masks. Rows go
to a file as they come, so an interrupted run continues; the figures go into the model card.
"""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL.Image import Image
from tqdm import tqdm

from ..recording import Recording, record
from ..recording.heatmaps import iou, pointing_game
from ..run.checkpoints import load
from ..run.denoise import Pipeline
from ..run.look import look_at
from ..run.text import embed, read_prompt
from .autoencoder import psnr, to_pictures, to_tensor
from .captions import Caption, describe, spoken
from .card import by_layer, write_card
from .draw import masks, render
from .export import SUMS, WEIGHTS
from .judge import SIDE, Found, look, match
from .world import KINDS, Scene, Thing, relation, sample_scene

TIMES = (900, 700, 500, 300, 100)  # the timesteps to which rendered scenes are noised
TOLD_AT = (800, 700, 600)  # where kinds are decided
GRADED_BY = [
    Path(__file__).with_name(f"{name}.py")
    for name in ("world", "draw", "captions", "judge", "evaluate")
]


def evaluate(
    folder: Path = WEIGHTS,
    count: int = 100,
    steps: int = 20,
    out: Path = Path("runs/evaluation"),
    seed: int = 0,
) -> str:
    """Grades `count` held-out captions, or those of them that `out` lacks; updates the card.

    Returns the table of where the words' maps point right. ValueError if `out` holds rows of other
    weights, steps or seed, or by another judge.
    """
    pipe = load(folder)
    rules = sha256(b"".join(path.read_bytes() for path in GRADED_BY)).hexdigest()
    of = f"{steps} steps, seed {seed}, graded by {rules}\n{(folder / SUMS).read_text()}"
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    if not (out / "of.txt").exists():
        (out / "of.txt").write_text(of)
    if (out / "of.txt").read_text() != of:
        raise ValueError(
            f"{out} holds rows of other weights, steps or seed, or by another judge: "
            "choose another folder"
        )
    rows = out / "rows.jsonl"
    done = len(rows.read_text().splitlines()) if rows.exists() else 0
    with open(rows, "a") as file:
        for index in tqdm(range(done, count), "evaluating", initial=done, total=count):
            row, picture = grade(pipe, index, steps, seed)
            picture.resize((128, 128)).save(out / "pictures" / f"{index:05d}.png")
            file.write(json.dumps(row) + "\n")
            file.flush()
    graded = [json.loads(line) for line in rows.read_text().splitlines()[:count]]
    write_card(folder, graded, steps, psnr(pipe.vae, Random(seed)))
    return by_layer(graded)


def grade(pipe: Pipeline, index: int, steps: int, seed: int) -> tuple[dict, Image]:
    """One held-out scene: its picture, what that shows and where the words of its caption look."""
    rng = Random(f"evaluation/{seed}/{index}")
    scene = sample_scene(rng, "held_out")
    caption = describe(scene, rng)
    with record(pipe.unet, attention="sum") as recording:
        run = pipe(caption.text, steps=steps, seed=index)
    shown = look(np.asarray(run.image))[1]
    found = match(shown, scene.things)
    row = {"prompt": caption.text, "shown": len(shown), **_painted(scene, caption, found)}
    right = [
        blob.mask if blob and _same(blob, thing) else None
        for blob, thing in zip(found, scene.things, strict=True)
    ]
    row["layers"] = list(recording.layers)
    row["sampled"] = list(_pointing(recording, caption, right))
    looked = look_at(pipe, render(scene, 512), caption.text, TIMES)
    truth = list(masks(scene, SIDE))
    row["rendered"] = {
        str(time): list(_pointing(looked, caption, truth, picture))
        for picture, time in enumerate(TIMES)
    }
    row["told"] = _told(pipe, scene, caption, rng)
    return row | _judged(pipe, scene), run.image


def _same(blob: Found, thing: Thing) -> bool:
    return (blob.thing.colour, blob.thing.kind) == (thing.colour, thing.kind)


def _painted(scene: Scene, caption: Caption, found: list[Found | None]) -> dict:
    """For each thing whether it is there in its colour and kind; told places and relation."""
    pairs = list(zip(found, scene.things, strict=True))
    row = {
        "things": [thing.kind for thing in scene.things],
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
def _told(pipe: Pipeline, scene: Scene, caption: Caption, rng: Random) -> dict[str, list[float]]:
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
    latents = (mean * pipe.vae.config.scaling_factor).expand(2 * len(TOLD_AT), -1, -1, -1)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    one = torch.randn(latents[:1].shape, generator=generator)
    noise, times = one.expand_as(latents), torch.tensor(TOLD_AT).repeat_interleave(2)
    noisy = pipe.scheduler.add_noise(latents, noise, times)
    output = pipe.unet(noisy, times, context.repeat(len(TOLD_AT), 1, 1)).sample
    missed = (output - pipe.scheduler.get_velocity(latents, noise, times)).square()
    side, reach = missed.shape[-1], 2 * thing.radius
    rows, columns = (
        slice(round(side * max(at - reach, 0)), round(side * (at + reach)))
        for at in (thing.y, thing.x)
    )
    errors = missed[:, :, rows, columns].mean((1, 2, 3)).view(len(TOLD_AT), 2)
    return {str(time): pair.tolist() for time, pair in zip(TOLD_AT, errors, strict=True)}


@torch.no_grad()
def _judged(pipe: Pipeline, scene: Scene) -> dict:
    """Whether the judge knows each thing in the true picture and in its round trip."""
    picture = render(scene, 512)
    latents = pipe.vae.encode(to_tensor([picture])).latent_dist.mean
    back = to_pictures(pipe.vae.decode(latents).sample)[0]
    return {
        name: [
            bool(blob and _same(blob, thing))
            for blob, thing in zip(match(look(shown)[1], scene.things), scene.things, strict=True)
        ]
        for name, shown in (("judge_render", picture), ("judge_round_trip", back))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"))
    options = parser.parse_args()
    print(evaluate(WEIGHTS, options.count, options.steps, options.out))


if __name__ == "__main__":
    main()

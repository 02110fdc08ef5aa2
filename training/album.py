"""Scenes as the UNet sees them: encoded once, and captioned anew each time they are looked at."""

import math
from dataclasses import dataclass, replace
from itertools import product
from random import Random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTokenizer

from unet_explained.bundled.captions import Caption, describe
from unet_explained.bundled.draw import masks, render
from unet_explained.bundled.world import (
    GROUNDS,
    LOOSE,
    THINGS,
    Scene,
    Thing,
    fits,
    relation,
    room,
    sample_scene,
)

from .autoencoder import to_tensor
from .pointing import word_tokens
from .tokenizer import token_ids

EMPTY_SHARE = 0.1  # of the captions are dropped, for classifier-free guidance
WINDOWS = (24, 24, 32)  # latents on a side: small ones cost less, large ones show more around
JITTER = 5  # latents: so far from a window's middle its thing may lie
SEEN = 0.25  # of a thing's pixels: with so many in a window, the window's caption names it
HARD = ("square", "boat", "butterfly")  # of a scene's things, twice as likely in the middle
HALO = 8  # latents around a thing's circle that are not as the encoder paints the empty ground


@dataclass
class Album:
    """Scenes with their scaled latents, encoded once (scene, 4, height, width), and masks.

    Its batches hold, beside latents, `others` (batch, part, other, 4, height, width): for each part
    of a sample the latents with that part elsewhere; `alike`: of which of them the caption is true.
    """

    scenes: list[Scene]
    latents: Tensor
    masks: Tensor  # (scene, thing, height, width), as scene_masks has them
    grounds: Tensor  # (ground, 4, height, width): the latents of each of GROUNDS, empty

    def batch(
        self, rng: Random, size: int, tokenizer: CLIPTokenizer, device: torch.device
    ) -> dict[str, Tensor]:
        """Random scenes with fresh captions, as DiffusionLoss takes them; each thing is a part."""
        chosen = self._choose(rng, size)
        captions = [_caption(self.scenes[index], rng) for index in chosen]
        latents, masks = self.latents[chosen].float(), self.masks[chosen]
        inputs = _inputs(latents, masks, captions, tokenizer, device)
        return inputs | _stacked([self._elsewhere(index) for index in chosen], device)

    def windows(
        self, rng: Random, size: int, tokenizer: CLIPTokenizer, device: torch.device
    ) -> dict[str, Tensor]:
        """Square pieces around a thing, with captions of what is in them; no places; one part.

        `size` of the smallest of WINDOWS, or as many larger ones as take the same time.
        """
        side = rng.choice(WINDOWS)
        count = max(1, round(size * (min(WINDOWS) / side) ** 2))
        pieces = [self._window(rng, index, side) for index in self._choose(rng, count)]
        latents, masks, others, alike, scenes = zip(*pieces, strict=True)
        captions = [_caption(scene, rng, places=False) for scene in scenes]
        inputs = _inputs(torch.stack(latents), torch.stack(masks), captions, tokenizer, device)
        return inputs | _stacked(list(zip(others, alike, strict=True)), device)

    def _choose(self, rng: Random, size: int) -> list[int]:
        """Random scenes, those of more things more often: there is more to learn in them."""
        weights = [len(scene.things) for scene in self.scenes]
        return rng.choices(range(len(self.scenes)), weights, k=size)

    def _window(
        self, rng: Random, index: int, side: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Scene]:
        """(latents, masks, others, alike, scene) of one window around a thing."""
        scene, full = self.scenes[index], self.latents.shape[-1]
        weights = [1 + (thing.kind in HARD) for thing in scene.things]
        thing, shifts = rng.choices(scene.things, weights)[0], range(-JITTER, JITTER + 1)
        columns, rows = (
            [min(max(round(full * at) - side // 2 + s, 0), full - side) for s in shifts]
            for at in (thing.x, thing.y)
        )

        def cut(maps: Tensor) -> Tensor:
            every = maps.unfold(1, side, 1).unfold(2, side, 1)
            return rearrange(
                every[:, rows][:, :, columns], "c row column y x -> (row column) c y x"
            )

        others, masks = cut(self.latents[index].float()), cut(self.masks[index])
        seen = masks.sum((2, 3)) > SEEN * self.masks[index].sum((1, 2))
        here = rng.randrange(len(others))
        numbers = seen[here].nonzero().flatten().tolist()
        inside = torch.zeros_like(masks[here])
        inside[: len(numbers)] = masks[here, numbers]
        scene = replace(scene, things=tuple(scene.things[number] for number in numbers))
        return others[here], inside, others[None], (seen == seen[here]).all(1)[None], scene

    def _elsewhere(self, index: int) -> tuple[Tensor, Tensor]:
        """(others, alike): each thing moved by whole latents, to where the world might put it.

        Alike are those that overlap no other thing and leave every relation as it is.
        """
        scene, latents = self.scenes[index], self.latents[index].float()
        side = latents.shape[-1]
        most = int(2 * LOOSE * side)
        at = (torch.arange(side) + 0.5) / side
        distances = torch.stack(
            [torch.hypot(at[:, None] - t.y, at - t.x) - t.radius for t in scene.things]
        )
        nearest, painted = distances.argmin(0), latents - self._ground(scene)
        others = latents.expand(THINGS, (most + 1) ** 2, -1, -1, -1).clone()
        alike = torch.zeros(others.shape[:2], dtype=torch.bool)
        alike[:, 0] = True  # a part that is nothing is where it is
        for number, thing in enumerate(scene.things):
            own = painted * ((nearest == number) & (distances[number] < HALO / side))
            moved = F.pad(own, [most] * 4).unfold(1, side, 1).unfold(2, side, 1)
            rows, columns = (_shifts(at, thing.radius, side) for at in (thing.y, thing.x))
            places = list(product(rows, columns))
            for other, (down, across) in enumerate(places):
                others[number, other] += moved[:, most - down, most - across] - own
                there = replace(thing, x=thing.x + across / side, y=thing.y + down / side)
                alike[number, other] = other == 0 or _possible(scene, number, there)
        return others, alike

    def _ground(self, scene: Scene) -> Tensor:
        return self.grounds[GROUNDS.index(scene.ground)].float()


def _shifts(at: float, radius: float, side: int) -> list[int]:
    """By how many latents a thing may be moved along its row or column; 0 is first."""
    low, high = ((edge - at) * side for edge in room(at, radius))
    return sorted({0, *range(math.ceil(low), math.floor(high) + 1)}, key=abs)


def _possible(scene: Scene, number: int, there: Thing) -> bool:
    """True if a scene's thing might as well be `there`."""
    thing, rest = scene.things[number], scene.things[:number] + scene.things[number + 1 :]
    return all(relation(there, each) == relation(thing, each) for each in rest) and fits(
        (there, *rest)
    )


def _stacked(pairs: list[tuple[Tensor, Tensor]], device: torch.device) -> dict[str, Tensor]:
    others, alike = (torch.stack(each).to(device) for each in zip(*pairs, strict=True))
    return {"others": others, "alike": alike}


def _caption(scene: Scene, rng: Random, places: bool = True) -> Caption | None:
    return None if rng.random() < EMPTY_SHARE else describe(scene, rng, places)


def _inputs(
    latents: Tensor,
    masks: Tensor,
    captions: list[Caption | None],
    tokenizer: CLIPTokenizer,
    device: torch.device,
) -> dict[str, Tensor]:
    captioned = torch.tensor([caption is not None for caption in captions])
    inputs = {
        "latents": latents,
        "ids": token_ids([caption.text if caption else "" for caption in captions], tokenizer),
        "words": word_tokens(captions, tokenizer),
        "masks": (masks & captioned[:, None, None, None]).float(),
    }
    return {name: each.to(device) for name, each in inputs.items()}


@torch.no_grad()
def make_album(vae: AutoencoderKL, rng: Random, count: int, side: int) -> Album:
    """`count` scenes, of one, two and three things in turn, from pictures of side x side pixels."""
    scenes = [sample_scene(rng, count=1 + number % THINGS) for number in range(count)]
    drawn = [*scenes, *(Scene(ground, ()) for ground in GROUNDS)]
    latents = []
    for start in tqdm(range(0, len(drawn), 4), f"encoding at {side}", mininterval=10):
        pictures = to_tensor([render(scene, side) for scene in drawn[start : start + 4]])
        mean = vae.encode(pictures.to(vae.device)).latent_dist.mean
        latents.append((mean * vae.config.scaling_factor).half().cpu())
    every = torch.cat(latents)
    shown = torch.stack([scene_masks(scene, side // 8) for scene in scenes])
    return Album(scenes, every[:count], shown, every[count:])


def scene_masks(scene: Scene, side: int) -> Bool[Tensor, "thing side side"]:
    """Of each thing that there may be; all False for those that the scene lacks."""
    found = torch.zeros(THINGS, side, side, dtype=torch.bool)
    found[: len(scene.things)] = torch.from_numpy(masks(scene, side))
    return found

"""The last stage of training: the UNet learns to remove noise, and the text encoder with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from .autoencoder import to_pictures, to_tensor
from .captions import Caption, describe
from .draw import masks, render
from .models import LATENT_SIDE, TIMESTEPS, build_scheduler
from .pointing import THINGS, Pointing, word_tokens
from .world import Scene, sample_scene

EMPTY_SHARE = 0.1  # of the captions are dropped, for classifier-free guidance
POINTING_WEIGHT = 0.05
THING = 256  # latent pixels: over so many the noise is averaged when a thing of usual size is seen
WINDOWS = (24, 24, 32)  # latents on a side: a small thing and what is around it, or a large one
JITTER = 5  # latents: so far from a window's middle its thing may lie
SEEN = 0.25  # of a thing's pixels: with so many in a window, the window's caption names it
NEAR = 0.9  # of the timesteps: up to there noise hides a thing's kind, but not where it is
DECIDING = (0.55, 0.85)  # of the timesteps: there a thing, on its way out of noise, gets its kind
KEYS = 128  # a pixel's self-attention looks at so many in training, or an eighth of all if more


class DiffusionLoss(nn.Module):
    """Squared error of the velocity that the UNet predicts, at random timesteps, and Pointing.

    Smaller latents stand for latents of full size that were averaged down to them: a mean of four
    pixels has half their noise. So what an inner level learns from them holds at full size.

    Where less than a fifth of the variance is noise, the error is weighted by its effect on the
    picture: as in min-SNR (Hang et al. 2023) with gamma 5, but for that side only.

    A window may lie anywhere around its thing, and through much noise nobody can tell where. To be
    predicted is then the mean of all windows that it may be, each weighted by how well it explains
    what is seen: a stable target (Xu et al. 2023), with the same mean and less variance.
    """

    def __init__(self, unet: nn.Module, text_encoder: CLIPTextModel):
        super().__init__()
        self.unet, self.text_encoder, self.pointing = unet, text_encoder, Pointing(unet)

    def forward(
        self, whole: dict[str, Tensor] | None = None, windows: dict[str, Tensor] | None = None
    ) -> Float[Tensor, ""]:
        """The loss of a batch of an Album, or of windows into its latents, or the sum of both.

        Windows are cheap: a thing's edges and kind depend on what is near. Nobody asks where in
        the picture their pixels are, so the last timesteps, which lay things out, are not theirs.
        """
        losses = []
        if whole is not None:
            inner = whole["latents"].shape[-1] < LATENT_SIDE
            times = _timesteps(whole["latents"], late=True, deciding=0.0 if inner else 0.5)
            losses.append(self._loss(**whole, times=times, where=True))
        if windows is not None:
            times = _timesteps(windows["latents"], latest=NEAR, deciding=0.7)
            losses.append(self._loss(**windows, times=times, where=False))
        return sum(losses)

    def _loss(
        self,
        latents: Float[Tensor, "batch 4 height width"],
        ids: Int[Tensor, "batch token"],
        words: Float[Tensor, "batch role thing token"],
        masks: Float[Tensor, "batch thing height width"],
        times: Int[Tensor, " batch"],
        where: bool,
        others: Float[Tensor, "batch other 4 height width"] | None = None,
        alike: Bool[Tensor, "batch other"] | None = None,
    ) -> Float[Tensor, ""]:
        scheduler = build_scheduler()
        kept = scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(latents.device)
        noise = noise_like(latents) if where else torch.randn_like(latents)
        noisy = scheduler.add_noise(latents, noise, times)
        if others is not None:
            latents, noise = expected(others, alike, noisy, kept[times])
        velocity = scheduler.get_velocity(latents, noise, times)
        context = self.text_encoder(ids).last_hidden_state
        with self.pointing.watching() as seen, fewer_keys(self.unet):
            output = self.unet(noisy, times, context, return_dict=False)[0]
        error = (output - velocity).square().mean((1, 2, 3))
        error = (error * (5 * (1 - kept[times])).clamp(max=1)).mean()
        signal = THING * kept[times] / (1 - kept[times])
        shown = signal / (1 + signal)
        return error + POINTING_WEIGHT * self.pointing(seen, words, masks, shown, where)


def expected(
    others: Float[Tensor, "batch other 4 height width"],
    alike: Bool[Tensor, "batch other"],
    noisy: Float[Tensor, "batch 4 height width"],
    kept: Float[Tensor, " batch"],
) -> tuple[Float[Tensor, "batch 4 height width"], Float[Tensor, "batch 4 height width"]]:
    """The latents and the noise that are to be expected in `noisy`.

    It was made of one of the `others` that are `alike`, each as likely as the next.
    kept: the share of the variance that is not noise, as alphas_cumprod has it.
    """
    kept = rearrange(kept, "batch -> batch 1 1 1")
    scaled = kept.sqrt()[:, None] * others
    missed = (noisy[:, None] - scaled).square().sum((2, 3, 4)) / (2 * (1 - kept[:, :, 0, 0]))
    weights = torch.softmax(-missed.masked_fill(~alike, torch.inf), dim=1)
    with torch.autocast(noisy.device.type, enabled=False):  # of a target every digit counts
        latents = einsum(weights, others, "batch other, batch other c y x -> batch c y x")
    return latents, (noisy - kept.sqrt() * latents) / (1 - kept).sqrt()


def noise_like(
    latents: Float[Tensor, "batch 4 height width"], generator: torch.Generator | None = None
) -> Float[Tensor, "batch 4 height width"]:
    """Gaussian noise as it would be left of full-size noise averaged down to these latents."""
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    return noise * (latents.shape[-1] / LATENT_SIDE)


@contextmanager
def fewer_keys(unet: nn.Module) -> Iterator[None]:
    """Lets self-attention look at few random pixels only: most of its time at 4096, saved."""

    def thin(module, inputs):
        q, k, v, mask = inputs
        few = max(KEYS, k.shape[2] // 8)
        if k.shape[2] <= few:
            return inputs
        chosen = torch.randperm(k.shape[2], device=k.device)[:few]
        return q, k[:, :, chosen], v[:, :, chosen], mask

    hooks = [
        module.register_forward_pre_hook(thin)
        for name, module in unet.named_modules()
        if name.endswith("attn1.attend")
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _timesteps(
    latents: Tensor, latest: float = 1, late: bool = False, deciding: float = 0
) -> Int[Tensor, " batch"]:
    """Random timesteps up to that share of them; `late` ones, which lay things out, more often.

    A share `deciding` of them is where kinds are decided. One timestep from each of `batch`
    equally likely parts, which makes the loss less noisy.
    """
    parts = torch.arange(len(latents), device=latents.device)
    share = (parts + torch.rand(len(latents), device=latents.device)) / len(latents)
    first, last = DECIDING
    here = torch.rand(len(latents), device=latents.device) < deciding
    there = (share.sqrt() if late else share) * latest
    share = torch.where(here, first + (last - first) * share, there)
    return (share * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)


@dataclass
class Album:
    """Scenes with their scaled latents, encoded once (scene, 4, height, width), and masks."""

    scenes: list[Scene]
    latents: Tensor
    masks: Tensor  # (scene, thing, height, width): all False for things that a scene lacks

    def batch(
        self, rng: Random, size: int, tokenizer: CLIPTokenizer, device: torch.device
    ) -> dict[str, Tensor]:
        """Random scenes with fresh captions, as DiffusionLoss takes them."""
        chosen = [rng.randrange(len(self.scenes)) for _ in range(size)]
        captions = [_caption(self.scenes[index], rng) for index in chosen]
        latents, masks = self.latents[chosen].float(), self.masks[chosen]
        return _inputs(latents, masks, captions, tokenizer, device)

    def windows(
        self, rng: Random, size: int, tokenizer: CLIPTokenizer, device: torch.device
    ) -> dict[str, Tensor]:
        """Square pieces around a thing, with captions of what is in them; no places.

        `size` of the smallest of WINDOWS, or as many larger ones as take the same time.
        """
        side = rng.choice(WINDOWS)
        count = max(1, round(size * (min(WINDOWS) / side) ** 2))
        pieces = [self._window(rng, rng.randrange(len(self.scenes)), side) for _ in range(count)]
        latents, masks, others, alike, scenes = zip(*pieces, strict=True)
        captions = [_caption(scene, rng, places=False) for scene in scenes]
        inputs = _inputs(torch.stack(latents), torch.stack(masks), captions, tokenizer, device)
        there = {"others": torch.stack(others), "alike": torch.stack(alike)}
        return inputs | {name: each.to(device) for name, each in there.items()}

    def _window(
        self, rng: Random, index: int, side: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Scene]:
        """(latents, masks, others, alike, scene) of one window around a thing.

        others: the latents of all windows that it may be; alike: of which its caption is true.
        """
        scene, full = self.scenes[index], self.latents.shape[-1]
        thing, shifts = rng.choice(scene.things), range(-JITTER, JITTER + 1)
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
        return others[here], inside, others, (seen == seen[here]).all(1), scene


def _caption(scene: Scene, rng: Random, places: bool = True) -> Caption | None:
    return None if rng.random() < EMPTY_SHARE else describe(scene, rng, places)


def _inputs(
    latents: Tensor,
    masks: Tensor,
    captions: list[Caption | None],
    tokenizer: CLIPTokenizer,
    device: torch.device,
) -> dict[str, Tensor]:
    told = torch.tensor([caption is not None for caption in captions])
    inputs = {
        "latents": latents,
        "ids": token_ids([caption.text if caption else "" for caption in captions], tokenizer),
        "words": word_tokens(captions, tokenizer),
        "masks": (masks & told[:, None, None, None]).float(),
    }
    return {name: each.to(device) for name, each in inputs.items()}


def token_ids(texts: list[str], tokenizer: CLIPTokenizer) -> Int[Tensor, "batch token"]:
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


@torch.no_grad()
def make_album(vae: AutoencoderKL, rng: Random, count: int, side: int, batch: int = 4) -> Album:
    """`count` random scenes, encoded from pictures of side x side pixels."""
    scenes = [sample_scene(rng) for _ in range(count)]
    latents = []
    for start in tqdm(range(0, count, batch), f"encoding at {side}", mininterval=10):
        pictures = to_tensor([render(scene, side) for scene in scenes[start : start + batch]])
        mean = vae.encode(pictures.to(vae.device)).latent_dist.mean
        latents.append((mean * vae.config.scaling_factor).half().cpu())
    return Album(scenes, torch.cat(latents), torch.stack([_masks(s, side // 8) for s in scenes]))


def _masks(scene: Scene, side: int) -> Bool[Tensor, "thing side side"]:
    found = torch.zeros(THINGS, side, side, dtype=torch.bool)
    found[: len(scene.things)] = torch.from_numpy(masks(scene, side))
    return found


@torch.no_grad()
def sample(
    model: DiffusionLoss,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    texts: list[str],
    side: int,
    steps: int = 20,
    guidance: float = 5.0,
    seed: int = 0,
) -> np.ndarray:
    """Pictures of the prompts, uint8 (batch, 8 side, 8 side, 3), for latents of any side."""
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    context = model.text_encoder(token_ids([""] * len(texts) + texts, tokenizer).to(vae.device))[0]
    generator = torch.Generator().manual_seed(seed)
    latents = noise_like(torch.empty(len(texts), 4, side, side, device=vae.device), generator)
    for timestep in scheduler.timesteps:
        output = model.unet(latents.repeat(2, 1, 1, 1), timestep, context, return_dict=False)[0]
        empty, told = output.chunk(2)
        latents = scheduler.step(empty + guidance * (told - empty), timestep, latents).prev_sample
    return to_pictures(vae.decode(latents / vae.config.scaling_factor).sample)

"""Scenes that are renewed all the time: processes draw and caption them, the device keeps some.

A GPU would see each of an Album's thousand scenes hundreds of times. The target here is the one
sample's velocity, not the stable one.
"""

from collections.abc import Iterator
from itertools import count
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import trange
from transformers import CLIPTokenizer

from unet_explained.bundled.captions import describe
from unet_explained.bundled.draw import render
from unet_explained.bundled.world import THINGS, sample_scene

from .album import EMPTY_SHARE, scene_masks
from .autoencoder import to_floats
from .pointing import word_tokens
from .reading import reading_batch
from .tokenizer import token_ids

CAPTIONS = 8  # of each scene; a sample has one of them
READ = 32  # more captions that come with new scenes, for ReadingLoss


class SceneStream(IterableDataset):
    """Endless (scenes, captions): `size` new scenes as tensors, and a reading_batch of READ.

    pictures: uint8 (scene, side, side, 3); masks: (scene, thing, side / 8, side / 8);
    ids: (scene, caption, token); words: (scene, caption, role, thing, token), as word_tokens.
    They are the same however many processes draw: a DataLoader asks these one after another.
    """

    def __init__(self, tokenizer: CLIPTokenizer, seed: int, size: int, side: int):
        self.tokenizer, self.seed, self.size, self.side = tokenizer, seed, size, side

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in count(first, step):
            rng = Random(f"{self.seed}/drawn/{number}")
            yield self._scenes(rng), reading_batch(rng, READ, self.tokenizer)

    def _scenes(self, rng: Random) -> dict[str, Tensor]:
        numbers = range(1, THINGS + 1)  # more things more often: there is more to learn in them
        counts = rng.choices(numbers, numbers, k=self.size)
        scenes = [sample_scene(rng, count=count) for count in counts]
        captions = [describe(scene, rng) for scene in scenes for _ in range(CAPTIONS)]
        ids = token_ids([caption.text for caption in captions], self.tokenizer)
        words = word_tokens(captions, self.tokenizer).bool()
        pictures = np.stack([render(scene, self.side) for scene in scenes])
        return {
            "pictures": torch.from_numpy(pictures),
            "masks": torch.stack([scene_masks(scene, self.side // 8) for scene in scenes]),
            "ids": ids.unflatten(0, (-1, CAPTIONS)),
            "words": words.unflatten(0, (-1, CAPTIONS)),
        }


class SceneStore:
    """The newest scenes, encoded, on the device; at each batch new ones replace the oldest.

    capacity: of so many scenes; workers: processes that draw; with 0 this one does.
    scenes: latents (scene, 4, height, width), and a SceneStream's masks, ids and words.
    """

    def __init__(self, vae: AutoencoderKL, stream: SceneStream, capacity: int, workers: int):
        self.vae, self.capacity, self.new, self.count = vae, capacity, stream.size, 0
        self.scenes: dict[str, Tensor] = {}
        self._empty = token_ids([""], stream.tokenizer).to(vae.device)
        self._stream = iter(DataLoader(stream, batch_size=None, num_workers=workers))
        for _ in trange(0, capacity, self.new, desc="drawing", mininterval=10):
            self._renew()

    def batch(self, size: int) -> dict[str, dict[str, Tensor]]:
        """Inputs of DiffusionLoss: `size` random ones of the scenes, and new captions to read.

        latents (size, 4, height, width), masks (size, thing, height, width), ids (size, token) and
        words (size, role, thing, token).
        """
        captions, device = self._renew(), self.vae.device
        chosen = torch.randint(self.capacity, (size,), device=device)
        caption = chosen, torch.randint(CAPTIONS, (size,), device=device)
        empty = torch.rand(size, device=device) < EMPTY_SHARE
        captioned = ~empty[:, None, None, None]
        fresh = {
            "latents": self.scenes["latents"][chosen].float(),
            "masks": (self.scenes["masks"][chosen] & captioned).float(),
            "ids": torch.where(empty[:, None], self._empty, self.scenes["ids"][caption]),
            "words": (self.scenes["words"][caption] & captioned).float(),
        }
        return {"fresh": fresh, "captions": captions}

    @torch.no_grad()
    def _renew(self) -> dict[str, Tensor]:
        """Encodes new scenes in place of the oldest; gives the captions that came along."""
        scenes, captions = (
            {name: each.to(self.vae.device) for name, each in part.items()}
            for part in next(self._stream)
        )
        with torch.autocast(self.vae.device.type, enabled=False):  # latents in full precision
            mean = self.vae.encode(to_floats(scenes.pop("pictures"))).latent_dist.mean
        scenes["latents"] = (mean * self.vae.config.scaling_factor).half()
        here = torch.arange(self.count, self.count + self.new, device=mean.device) % self.capacity
        for name, each in scenes.items():
            if name not in self.scenes:
                self.scenes[name] = each.new_empty(self.capacity, *each.shape[1:])
            self.scenes[name][here] = each
        self.count += self.new
        return captions

"""Scenes that are renewed all the time: processes draw and caption them, the device keeps some.

To a GPU each of an Album's thousand scenes would come hundreds of times. The target here is the one
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

CAPTIONS = 8  # of each scene; at a time one of them is told
READ = 32  # captions that come along with new scenes, to be read


class Drawn(IterableDataset):
    """Endless (scenes, captions): `size` new scenes as tensors, and a reading_batch of READ.

    pictures: uint8 (scene, side, side, 3); masks: (scene, thing, side / 8, side / 8);
    ids: (scene, caption, token); words: (scene, caption, role, thing, token), as word_tokens.
    They are the same however many processes draw: these take turns, as a DataLoader asks them.
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


class Fresh:
    """The newest `room` scenes, encoded, on the device; at each batch new ones replace the oldest.

    workers: processes that draw; with 0 this one does.
    """

    def __init__(self, vae: AutoencoderKL, drawn: Drawn, room: int, workers: int):
        self.vae, self.room, self.new, self.count = vae, room, drawn.size, 0
        self.empty = token_ids([""], drawn.tokenizer).to(vae.device)
        self._drawn = iter(DataLoader(drawn, batch_size=None, num_workers=workers))
        self._kept = {}
        for _ in trange(0, room, self.new, desc="drawing", mininterval=10):
            self._renew()

    def batch(self, size: int) -> dict[str, dict[str, Tensor]]:
        """Inputs of DiffusionLoss: `size` random ones of the scenes, and new captions to read.

        latents (size, 4, height, width), masks (size, thing, height, width), ids (size, token) and
        words (size, role, thing, token).
        """
        captions, device = self._renew(), self.vae.device
        scenes = torch.randint(self.room, (size,), device=device)
        told = scenes, torch.randint(CAPTIONS, (size,), device=device)
        silent = torch.rand(size, device=device) < EMPTY_SHARE
        heard = ~silent[:, None, None, None]
        fresh = {
            "latents": self._kept["latents"][scenes].float(),
            "masks": (self._kept["masks"][scenes] & heard).float(),
            "ids": torch.where(silent[:, None], self.empty, self._kept["ids"][told]),
            "words": (self._kept["words"][told] & heard).float(),
        }
        return {"fresh": fresh, "captions": captions}

    @torch.no_grad()
    def _renew(self) -> dict[str, Tensor]:
        """Encodes new scenes in place of the oldest; gives the captions that came along."""
        scenes, captions = (
            {name: each.to(self.vae.device) for name, each in part.items()}
            for part in next(self._drawn)
        )
        with torch.autocast(self.vae.device.type, enabled=False):  # of what is learnt, all digits
            mean = self.vae.encode(to_floats(scenes.pop("pictures"))).latent_dist.mean
        scenes["latents"] = (mean * self.vae.config.scaling_factor).half()
        here = torch.arange(self.count, self.count + self.new, device=mean.device) % self.room
        for name, each in scenes.items():
            if name not in self._kept:
                self._kept[name] = each.new_empty(self.room, *each.shape[1:])
            self._kept[name][here] = each
        self.count += self.new
        return captions

"""Trains the bundled pipeline on, with scenes that are renewed all the time: for a GPU.

python -m training.finetune --out runs/finetune
"""

import argparse
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from unet_explained.run.checkpoints import load

from .diffusion import DiffusionLoss
from .fresh import SceneStore, SceneStream
from .loop import Stage
from .reading import ReadingLoss
from .train import Training

HEADS = Stage("heads", steps=300, batch=64, side=512, rate=4e-2)
FRESH = Stage("fresh", steps=1450, batch=256, side=512, rate=1e-3, muon=True)
STORED = 64  # the device stores scenes for so many batches
SEEN = 8  # times that a scene is seen, about: a step renews one scene for so many of its samples
WORKERS = 15  # at most: so many kept up with an H200


def finetune(
    out: Path = Path("runs/finetune"),
    seed: int = 0,
    heads: Stage = HEADS,
    fresh: Stage = FRESH,
    workers: int = 0,
) -> None:
    """Trains the bundled UNet and text encoder on; on a GPU in bfloat16.

    The losses' own layers, which read the two, are not exported; so they are trained first, alone.
    `out` gets checkpoints, sample sheets and the pipeline. `workers` processes draw scenes; with 0
    this one does. For one process; a resumed run is given the first scenes again.
    """
    torch.manual_seed(seed)
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    pipe = load(device=accelerator.device, dtype="float32")
    training = Training(accelerator, out, seed, pipe.tokenizer)
    loss = DiffusionLoss(pipe.unet, ReadingLoss(pipe.text_encoder)).to(accelerator.device)
    stream = SceneStream(pipe.tokenizer, seed, max(1, fresh.batch // SEEN), fresh.side)
    scenes = SceneStore(pipe.vae, stream, STORED * fresh.batch, workers)

    def run(stage: Stage, **options) -> None:
        training.run(stage, loss, lambda rng: scenes.batch(stage.batch), **options)

    for part in (pipe.unet, pipe.text_encoder):
        part.requires_grad_(False)
    run(heads)
    for part in (pipe.unet, pipe.text_encoder):
        part.requires_grad_(True)
    run(fresh, save_every=1000, on_save=partial(training.save, pipe.unet, pipe.vae, fresh))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=FRESH.steps)
    parser.add_argument("--batch", type=int, default=FRESH.batch)
    options = parser.parse_args()
    fresh = replace(FRESH, steps=options.steps, batch=options.batch)
    workers = min(WORKERS, max(1, (os.cpu_count() or 1) - 1))
    finetune(options.out, options.seed, fresh=fresh, workers=workers)


if __name__ == "__main__":
    main()

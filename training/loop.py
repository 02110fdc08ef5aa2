"""One stage of training: seeded batches, an average of the weights, checkpoints, progress."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from math import cos, pi
from pathlib import Path
from random import Random

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from unet_explained.writing import written_folder

from .muon import optimizers

DECAY = 0.995  # of the average of the weights; after n steps (1 + n) / (10 + n) at most
LOG = "log.jsonl"  # of the loss so far, in a checkpoint


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int
    batch: int  # samples a step on each process
    side: int  # of the pictures, in pixels
    rate: float  # the highest learning rate
    level: int = 0  # of the UNet, from which inwards it is trained
    windows: int = 0  # so many more samples a step on each process; fewer, if they are larger ones
    muon: bool = False  # for the matrices, instead of AdamW


def batch_seed(seed: int, stage: str, step: int, process: int) -> Random:
    """The random numbers of one batch: they depend on nothing else, so a resumed run repeats.

    torch is seeded along, for the noise and the timesteps.
    """
    rng = Random(f"{seed}/{stage}/{step}/{process}")
    torch.manual_seed(rng.getrandbits(32))
    return rng


def run_stage(
    accelerator: Accelerator,
    stage: Stage,
    model: nn.Module,
    inputs: Callable[[Random], dict],
    folder: Path,
    seed: int = 0,
    save_every: int = 200,
    on_save: Callable[[nn.Module, int], None] = lambda model, step: None,
) -> nn.Module:
    """Minimises `model(**inputs(rng))`, a scalar; leaves the averaged weights in `model`.

    Continues from the last checkpoint in `folder`, if there is one. `on_save(model, step)` is
    called with the averaged weights in place at each checkpoint.
    """
    plain = model
    model, *steppers = accelerator.prepare(model, *optimizers(model, stage.rate, stage.muon))
    average = EMAModel(plain.parameters(), decay=DECAY)
    average.to(accelerator.device)
    start = _restore(accelerator, average, folder)
    bar = tqdm(
        range(start, stage.steps),
        stage.name,
        initial=start,
        total=stage.steps,
        mininterval=10,
        disable=not accelerator.is_main_process,
    )
    smooth, curve = None, []
    for step in bar:
        rate = stage.rate * learning_rate(step, stage.steps)
        for group in chain.from_iterable(each.param_groups for each in steppers):
            group["lr"] = rate
        rng = batch_seed(seed, stage.name, step, accelerator.process_index)
        with accelerator.autocast():
            loss = model(**inputs(rng))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        for each in steppers:
            each.step()
            each.zero_grad()
        average.step(plain.parameters())
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
        if (step + 1) % 10 == 0:
            # windows as if all were of the smallest size
            seen = (step + 1) * (stage.batch + stage.windows) * accelerator.num_processes
            curve.append({"step": step + 1, "samples": seen, "loss": round(smooth, 5)})
        if (step + 1) % save_every == 0 or step + 1 == stage.steps:
            _checkpoint(accelerator, average, folder, step + 1, curve)
            curve = []
            if accelerator.is_main_process:
                _with_average(average, plain, on_save, step + 1)
    average.copy_to(plain.parameters())
    accelerator.free_memory()
    return plain


def learning_rate(step: int, steps: int) -> float:
    """The share of the highest rate: 50 steps of warm-up, then half a cosine to a twentieth."""
    warm = min(1.0, (step + 1) / 50)
    return warm * (0.05 + 0.95 * 0.5 * (1 + cos(pi * step / steps)))


def _with_average(average: EMAModel, plain: nn.Module, on_save: Callable, step: int) -> None:
    average.store(plain.parameters())
    average.copy_to(plain.parameters())
    on_save(plain, step)
    average.restore(plain.parameters())


def _checkpoint(accelerator, average, folder: Path, step: int, curve: list) -> None:
    """Replaces the last one when it is whole: a stage that is ended meanwhile continues from that.

    The first process writes for all: what the others draw follows from their seeds.
    """
    if accelerator.is_main_process:
        log = _last(folder) / LOG
        points = log.read_text() if log.exists() else ""
        with written_folder(_last(folder), whole=True) as new:
            accelerator.save_state(new / "state")
            torch.save(average.state_dict(), new / "average.pt")
            (new / LOG).write_text(points + "".join(json.dumps(one) + "\n" for one in curve))
            (new / "step.json").write_text(json.dumps({"step": step}))
    accelerator.wait_for_everyone()


def _restore(accelerator, average, folder: Path) -> int:
    """Loads the last checkpoint of the stage, if any, and says how many steps it had done."""
    folder.mkdir(parents=True, exist_ok=True)
    last = _last(folder)
    if not last.exists():
        return 0
    accelerator.load_state(last / "state")
    average.load_state_dict(torch.load(last / "average.pt", weights_only=True))
    average.to(accelerator.device)
    return json.loads((last / "step.json").read_text())["step"]


def _last(folder: Path) -> Path:
    return folder / "checkpoint"

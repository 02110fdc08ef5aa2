"""Grades the bundled pipeline: python -m training.evaluate --count 500 --processes 2

Held-out captions are painted and judged, and the maps of their words compared with masks. Rows go
to a file as they come, so an interrupted run continues; the figures go into the model card, and all
of them into HISTORY.md.
"""

import argparse
import json
from collections.abc import Iterator
from functools import cache, partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from random import Random

import torch
from PIL.Image import Image
from tqdm import tqdm

from unet_explained.bundled import captions, draw, world
from unet_explained.run.checkpoints import load
from unet_explained.run.denoise import Pipeline
from unet_explained.run.hub import BUNDLED
from unet_explained.run.sums import SUMS

from . import judge, score
from .autoencoder import psnr
from .card import by_layer, in_full, in_short, put

HISTORY = Path(__file__).with_name("HISTORY.md")
OUT = Path("runs/evaluation")
GRADED_BY = (world, draw, captions, judge, score)


def evaluate(
    folder: Path = BUNDLED,
    history: Path = HISTORY,
    count: int = 100,
    steps: int = 20,
    out: Path = OUT,
    processes: int = 1,
) -> str:
    """Scores `count` held-out captions, or those of them that `out` lacks; updates both documents.

    Returns the table of where the words' maps point right. ValueError if `out` holds rows of other
    weights or steps, or by another judge.
    """
    _claim(out, folder, steps)
    rows = out / "rows.jsonl"
    done = len(rows.read_text().splitlines()) if rows.exists() else 0
    with open(rows, "a") as file:
        scored = _score_all(folder, range(done, count), steps, processes)
        bar = tqdm(scored, "evaluating", initial=done, total=count)
        for index, (row, picture) in enumerate(bar, done):
            picture.resize((128, 128)).save(out / "pictures" / f"{index:05d}.png")
            file.write(json.dumps(row) + "\n")
            file.flush()
    graded = [json.loads(line) for line in rows.read_text().splitlines()[:count]]
    put(folder / "README.md", in_short(graded, steps))
    put(history, in_full(graded, steps, psnr(_loaded(folder).vae, Random(0))))
    return by_layer(graded)


def _claim(out: Path, folder: Path, steps: int) -> None:
    """Notes in `out` what its rows are of, or makes sure that they are of the same."""
    rules = sha256(b"".join(Path(module.__file__).read_bytes() for module in GRADED_BY))
    of = f"{steps} steps, graded by {rules.hexdigest()}\n{(folder / SUMS).read_text()}"
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    if not (out / "of.txt").exists():
        (out / "of.txt").write_text(of)
    if (out / "of.txt").read_text() != of:
        raise ValueError(
            f"{out} holds rows of other weights or steps, or by another judge: "
            "choose another folder"
        )


def _score_all(
    folder: Path, indices: range, steps: int, processes: int
) -> Iterator[tuple[dict, Image]]:
    """In the order of the indices; the processes share the threads that this one has."""
    threads = max(1, torch.get_num_threads() // processes)
    with get_context("spawn").Pool(processes, torch.set_num_threads, (threads,)) as pool:
        yield from pool.imap(partial(_score, folder, steps), indices)


def _score(folder: Path, steps: int, index: int) -> tuple[dict, Image]:
    return score.score_caption(_loaded(folder), index, steps)


@cache
def _loaded(folder: Path) -> Pipeline:
    return load(folder, device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    print(evaluate(**vars(options)))


if __name__ == "__main__":
    main()

"""python -m benchmarks: measure on this machine and write benchmarks/RESULTS.md; or some parts.

python -m benchmarks limits: make every fault of docs/limits.md and write its table.
"""

import argparse
import datetime
import platform
from functools import partial
from pathlib import Path

import torch

from . import busy, light, live, maps, python, soak, unet
from .limits import limits

RESULTS = Path(__file__).parent / "RESULTS.md"


PARTS = {
    "imports": light.imports,
    "shapes": light.shape_tables,
    "python": lambda rounds: python.share(40 * rounds),  # of milliseconds many are needed
    "live": partial(live.cost, "cpu"),
    "busy": busy.cost,
    "soak": lambda rounds: soak.cost(60 * rounds),
    "maps": maps.definitions,
    "as it comes": partial(unet.forward, "cpu", torch.float32, as_it_comes=True),
    "float32": partial(unet.forward, "cpu", torch.float32),
    "bfloat16": partial(unet.forward, "cpu", torch.bfloat16),
}
ON_CUDA = {
    "live on CUDA": partial(live.cost, "cuda"),
    "CUDA": lambda rounds: unet.forward("cuda", torch.bfloat16, 10 * rounds),
}
BY_NAME = {"limits": limits}  # these run only where they are asked for


def main() -> None:
    usual = PARTS | (ON_CUDA if torch.cuda.is_available() else {})
    known = usual | BY_NAME
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each contender, interleaved")
    parser.add_argument("parts", nargs="*", help=f"print these alone: {', '.join(known)}")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(known):
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(known)}")

    texts = [heading(options.rounds)]
    for name in options.parts or usual:
        texts.append(known[name](rounds=options.rounds))
        print(texts[-1], flush=True)
        if not options.parts:
            RESULTS.write_text("\n".join(texts))  # each as it comes: a full run takes long


def heading(rounds: int) -> str:
    """What was measured, on what, when."""
    import diffusers

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"# Measured on {datetime.date.today()}\n\n"
        f"{_processor()}, {torch.get_num_threads()} threads{gpu}; torch {torch.__version__}, "
        f"diffusers {diffusers.__version__}, Python {platform.python_version()}; {rounds} rounds, "
        "contenders interleaved, after one of each for warmth. Errors are the largest difference "
        "to diffusers' float32 output on the CPU over its largest value. Again: "
        "`python -m benchmarks`.\n"
    )


def _processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()

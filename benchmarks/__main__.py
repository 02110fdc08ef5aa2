"""python -m benchmarks: measure on this machine and write benchmarks/RESULTS.md."""

import argparse
import datetime
import platform
from pathlib import Path

import torch

from . import light, live, unet

RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each contender, interleaved")
    options = parser.parse_args()

    rounds, parts = options.rounds, [heading(options.rounds)]
    for part in (
        lambda: light.imports(rounds),
        lambda: light.shape_tables(rounds),
        lambda: live.cost("cpu", rounds),
        *([lambda: live.cost("cuda", rounds)] * torch.cuda.is_available()),
        lambda: unet.forward("cpu", torch.float32, rounds, as_it_comes=True),
        lambda: unet.forward("cpu", torch.float32, rounds),
        lambda: unet.forward("cpu", torch.bfloat16, rounds),
        *([lambda: unet.forward("cuda", torch.bfloat16, 10 * rounds)] * torch.cuda.is_available()),
    ):
        parts.append(part())
        print(parts[-1], flush=True)
        RESULTS.write_text("\n".join(parts))  # each as it comes: a full run takes long
    print(f"wrote {RESULTS}")


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

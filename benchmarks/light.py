"""What costs little and is paid often: the shape table, and importing the package."""

import subprocess
import sys

import torch

import unet_explained as ux

from .timing import interleaved, table


def shape_tables(rounds: int) -> str:
    """Our table on the meta device against torchinfo's on the same model there."""
    import torchinfo

    config = ux.UNetConfig.load("sd15")

    def with_torchinfo():
        with torch.device("meta"):
            model = ux.UNet2DConditionModel(config)
            given = torch.empty(2, 4, 64, 64), 500, torch.empty(2, 77, 768)
            return torchinfo.summary(model, input_data=given, verbose=0, device="meta", depth=9)

    contenders = {
        "shape_table('sd15')": lambda: ux.shape_table("sd15"),
        "torchinfo on the meta device": with_torchinfo,
        "shape_table('sdxl')": lambda: ux.shape_table("sdxl"),
    }
    times = interleaved(contenders, rounds)
    return table("The shape table", list(times.items()), ("", "median (least to most)"))


def imports(rounds: int) -> str:
    """A fresh interpreter that imports one thing; python itself is the first row."""
    statements = {
        "python": "pass",
        "import unet_explained": "import unet_explained",
        "... and its UNet": "from unet_explained import UNet2DConditionModel",
        "import torch": "import torch",
        "diffusers' UNet": "from diffusers import UNet2DConditionModel",
    }

    def run(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    times = interleaved({name: run(code) for name, code in statements.items()}, rounds)
    return table("Importing", list(times.items()), ("", "median (least to most)"))

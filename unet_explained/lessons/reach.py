"""How far a change travels on the way down: counted from kernels, and measured by a ripple."""

import numpy as np
import torch
from torch import Tensor, nn

from ..model import UNet2DConditionModel
from ..model.resnet import Downsample2D, ResnetBlock2D
from ..recording.intervene import intervene


def convolution_reach(unet: UNet2DConditionModel) -> dict[str, int]:
    """How many latents wide one pixel of a module's output sees, by convolutions alone.

    A kernel of k at a spacing of s latents adds (k - 1) s; a stride multiplies the spacing.
    Norms and attention look at the whole picture and are left out.
    """
    side, spacing, sides = 1, 1, {}
    for name, module in unet.named_modules():
        down = name == "conv_in" or name.startswith("down_blocks")
        if not down or not isinstance(module, nn.Conv2d | ResnetBlock2D | Downsample2D):
            continue
        if isinstance(module, nn.Conv2d) and name != "conv_in":
            continue  # counted with the resnet or sampler that it is part of
        for conv in _kernels(module):
            side += (conv.kernel_size[0] - 1) * spacing
            spacing *= conv.stride[0]
        sides[name] = side
    return {name: sides[name] for name in sorted(sides, key=sides.__getitem__)}


def _kernels(module: nn.Conv2d | ResnetBlock2D | Downsample2D) -> list[nn.Conv2d]:
    """Along the residual branch, one after another."""
    if isinstance(module, ResnetBlock2D):
        return [module.conv1, module.conv2]
    return [module.conv] if isinstance(module, Downsample2D) else [module]


def ripple(run, step: int, pixel: tuple[int, int], *names: str) -> dict:
    """How much each module's output changes, place by place, when one latent pixel is changed.

    pixel: (row, column) in the latents, all of whose channels get 1 added. name -> an array
    (height, width): the length of the change across the channels, in the half with the prompt.
    """

    def touch(sample: Tensor) -> Tensor:
        one = torch.zeros_like(sample)
        one[:, :, pixel[0], pixel[1]] = 1
        return sample + one

    before = run.replay(step, *names, attention=None)
    with intervene(run.pipeline.unet, "", touch, on="sample"):
        after = run.replay(step, *names, attention=None)
    return {name: _length(after[name][0] - before[name][0]) for name in names}


def _length(change) -> np.ndarray:
    return change[-1].float().norm(dim=0).numpy()

"""Ready-made changes for ux.intervene: what if the network had no ..., or saw another ...?

Each gives a function from the old value to a new one; `freeu` is several interventions at once.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..recording.intervene import intervene


def drop_skip(resnet: int) -> Callable[[list[Tensor]], list[Tensor]]:
    """Zeros for the skip that arrives at an up block's resnets.<resnet>: pass on="skips"."""

    def change(skips: list[Tensor]) -> list[Tensor]:
        _expect("resnet", resnet, len(skips), "skips arrive in this block")
        last = len(skips) - 1  # resnets.0 takes the last skip
        return [torch.zeros_like(s) if last - i == resnet else s for i, s in enumerate(skips)]

    return change


def silence_head(head: int) -> Callable[[Tensor], Tensor]:
    """Zeros for what one head found: on the output of an Attend ("*attn2.attend")."""

    def change(
        out: Float[Tensor, "batch head query head_dim"],
    ) -> Float[Tensor, "batch head query head_dim"]:
        _expect("head", head, out.shape[1], "heads in this layer")
        others = torch.arange(out.shape[1], device=out.device) != head
        return out * rearrange(others, "head -> head 1 1")

    return change


def swap_keys(first: int, second: int, rows: slice = slice(None)) -> Callable[[Tensor], Tensor]:
    """Two tokens are looked for under each other's name: on the output of "*attn2.to_k".

    Their values stay where they are. rows: the part of the batch that is changed.
    """

    def change(
        keys: Float[Tensor, "batch key channel"],
    ) -> Float[Tensor, "batch key channel"]:
        for name, token in (("first", first), ("second", second)):
            _expect(name, token, keys.shape[1], "tokens in this prompt")
        new = keys.clone()
        new[rows, first], new[rows, second] = keys[rows, second], keys[rows, first]
        return new

    return change


def freeze_timestep(timestep: float) -> Callable[[Tensor], Tensor]:
    """Whatever the step, the network is told this timestep: on the input of "time_proj"."""
    return lambda timesteps: torch.full_like(timesteps, timestep)


@contextmanager
def freeu(unet, s1: float, s2: float, b1: float, b2: float) -> Iterator[None]:
    """FreeU (Si et al. 2023): a louder stream, and skips with less of their coarse part.

    In up blocks 0 and 1, before each concatenation: half of the stream's channels times b, the
    lowest frequencies of the skip times s. Si et al. for SD 1.5: s1=0.9, s2=0.2, b1=1.5, b2=1.6.
    """
    with ExitStack() as stack:
        for block, (s, b) in enumerate(((s1, b1), (s2, b2))):
            for i, width in enumerate(stream_widths(unet, block)):
                change = partial(_louder_stream_flatter_skip, width, s, b)
                place = f"up_blocks.{block}.resnets.{i}"
                stack.enter_context(intervene(unet, place, change, on="input"))
        yield


def stream_widths(unet, block: int) -> list[int]:
    """Channels of the stream that reaches each resnet of an up block; the rest is the skip."""
    blocks = [unet.down_blocks[-1], *unet.up_blocks]
    before, resnets = blocks[block].resnets[-1], unet.up_blocks[block].resnets
    return [resnet.conv1.out_channels for resnet in (before, *resnets[:-1])]


def _louder_stream_flatter_skip(width: int, s: float, b: float, both: Tensor) -> Tensor:
    """The change of one concatenation, [stream, skip]."""
    half = width // 2
    loud, stream, skip = both.split([half, width - half, both.shape[1] - width], dim=1)
    return torch.cat([loud * b, stream, scale_low_frequencies(skip, s)], dim=1)


def scale_low_frequencies(
    x: Float[Tensor, "batch channel height width"], scale: float
) -> Float[Tensor, "batch channel height width"]:
    """The mean and the longest waves of each feature map, times scale."""
    sides = (-2, -1)
    # float32 whatever the model's dtype: torch has no such transform in bfloat16.
    waves = torch.fft.fftshift(torch.fft.fftn(x.float(), dim=sides), dim=sides)
    row, column = (side // 2 for side in x.shape[-2:])
    mask = torch.ones(x.shape[-2:], device=x.device)
    mask[row - 1 : row + 1, column - 1 : column + 1] = scale
    waves = torch.fft.ifftshift(waves * mask, dim=sides)
    return torch.fft.ifftn(waves, dim=sides).real.to(x.dtype)


def _expect(name: str, index: int, count: int, what: str) -> None:
    if not 0 <= index < count:
        raise IndexError(f"{name}={index}: expected 0 to {count - 1}, for there are {count} {what}")

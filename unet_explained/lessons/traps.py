"""Slips that are easy to make in this network and that run without an error, as toggles.

with trapped(unet, "sine first"): ...     this model makes the slip, and stops on leaving
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from ..model.attention import GEGLU, Attend, Attention, Transformer2DModel
from ..model.blocks import UNetMidBlock2D, UpBlock2D
from ..model.embeddings import Timesteps
from ..model.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from ..model.unet import UNet2DConditionModel
from ..recording.intervene import intervene
from ..recording.patterns import own
from ..words import closest
from . import instead
from .what_if import stream_widths


class Trap(NamedTuple):
    """One slip: `with trap.on(unet): ...`. source: the class with the right line."""

    name: str
    slip: str  # what goes wrong, and why it is easy to do
    right: str  # what the checkpoints were trained with
    source: type[nn.Module]
    on: Callable[[nn.Module], AbstractContextManager[None]]


TRAPS: dict[str, Trap] = {}


def trapped(model: nn.Module, name: str) -> AbstractContextManager[None]:
    """Let a UNet make one slip inside a `with`. Raises ValueError for an unknown name."""
    if name not in TRAPS:
        raise ValueError(
            f"no trap is called {name!r}{closest(name, TRAPS)}; there are: {', '.join(TRAPS)}"
        )
    return TRAPS[name].on(own(model))


def _trap(source: type[nn.Module], right: str):
    """Enters a function in TRAPS: its name and its docstring are the slip's."""

    def enter(on):
        name = on.__name__.replace("_", " ")
        TRAPS[name] = Trap(name, on.__doc__, right, source, on)
        return on

    return enter


# The first stage: time


@_trap(Timesteps, "flip_sin_to_cos is true in every Stable Diffusion: [cos, sin].")
def sine_first(unet):
    """Sines before cosines, as Vaswani et al. write them and DDPM computes them."""
    return instead.attributes(
        unet, Timesteps, lambda waves: {"flip_sin_to_cos": not waves.flip_sin_to_cos}
    )


@_trap(Timesteps, "freq_shift is 0: divide by half.")
def freq_shift(unet):
    """Frequencies divided by half - 1, as DDPM has it, so that the slowest is 1/10000 exactly."""
    return instead.attributes(unet, Timesteps, lambda waves: {"freq_shift": 1 - waves.freq_shift})


@_trap(Timesteps, "Sinusoids in float32, cast to the model's dtype just before the MLP.")
def time_in_float16(unet):
    """Sinusoids in the dtype of a fast model: near 1000, float16 counts in halves."""

    def forward(self: Timesteps, timesteps: Tensor) -> Tensor:
        half = self.num_channels // 2
        index = torch.arange(half, device=timesteps.device)
        frequency = torch.exp(-math.log(10000) * index / (half - self.freq_shift)).half()
        angle = (rearrange(timesteps, "batch -> batch 1").half() * frequency).float()
        waves = [angle.cos(), angle.sin()] if self.flip_sin_to_cos else [angle.sin(), angle.cos()]
        return torch.cat(waves, dim=-1)

    return instead.forward(unet, Timesteps, forward)


@_trap(ResnetBlock2D, "Each resnet applies SiLU to the time embedding again.")
def one_silu(unet):
    """No SiLU before time_emb_proj: the embedding has just come out of an MLP with a SiLU."""

    def other(silu: nn.Module) -> dict:
        right = silu.forward
        # Of what a resnet's nonlinearity is given, the time embedding alone has two axes.
        return {"forward": lambda x: x if x.ndim == 2 else right(x)}

    return instead.attributes(unet, ResnetBlock2D, other, part="nonlinearity")


@_trap(UNetMidBlock2D, "mid_block_scale_factor is 1 in every Stable Diffusion, and divides.")
def mid_over_root_two(unet):
    """The mid block's resnets divided by the root of 2, as in score-based relatives."""
    mid = unet.mid_block or nn.Module()
    return instead.attributes(
        mid, ResnetBlock2D, lambda resnet: {"output_scale_factor": math.sqrt(2)}
    )


# Inside the transformers


@_trap(Transformer2DModel, "1e-6 there; 1e-5 in resnets, conv_norm_out and every LayerNorm.")
def transformer_eps(unet):
    """An eps of 1e-5 in the transformers' GroupNorm, as everywhere else in the network."""
    return instead.attributes(unet, Transformer2DModel, lambda norm: {"eps": 1e-5}, part="norm")


@_trap(Transformer2DModel, "It is added to the input as it came.")
def normed_residual(unet):
    """What the transformer gives is added to its normed input: one name used twice."""

    def forward(self: Transformer2DModel, hidden_states: Tensor, *rest: Tensor) -> Tensor:
        right, norm = type(self).forward(self, hidden_states, *rest), self.norm
        normed = F.group_norm(hidden_states, norm.num_groups, norm.weight, norm.bias, norm.eps)
        return right - hidden_states + normed

    return instead.forward(unet, Transformer2DModel, forward)


@_trap(Attention, "It is the number of heads: a misnomer, kept so that old configs load.")
def head_size_for_heads(unet):
    """attention_head_dim taken at its word: as the size of a head, not the number of heads."""
    return instead.attributes(
        unet, Attention, lambda layer: {"heads": layer.to_q.out_features // layer.heads}
    )


@_trap(Transformer2DModel, "Row after row, both ways: the height is the input's, not a root.")
def columns_for_rows(unet):
    """A sequence of pixels folded back column by column: no shape of a square picture tells."""

    def forward(self: Transformer2DModel, hidden_states: Tensor, *rest: Tensor) -> Tensor:
        added = type(self).forward(self, hidden_states, *rest) - hidden_states
        height, sequence = hidden_states.shape[-2], rearrange(added, "b c y x -> b c (y x)")
        return hidden_states + rearrange(sequence, "b c (x y) -> b c y x", y=height)

    return instead.forward(unet, Transformer2DModel, forward)


@_trap(Attention, "to_q, to_k and to_v have none; to_out.0 has one.")
def no_bias_after_attention(unet):
    """to_out without a bias, as the three linears before it: a lenient load leaves it out."""

    def other(linear: nn.Linear) -> dict:
        return {"forward": lambda x: F.linear(x, linear.weight)}

    return instead.attributes(unet, Attention, other, part="to_out.0")


@_trap(Attend, "In float32, as the fused kernel does inside, whatever upcast_attention says.")
def softmax_in_float16(unet):
    """Scores and softmax written out in the dtype of a fast model."""

    def forward(self: Attend, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None):
        scores = einsum(q.half(), k.half(), "b h query d, b h key d -> b h query key")
        scores = scores / math.sqrt(q.shape[-1]) + (0 if mask is None else mask.half())
        return scores.softmax(dim=-1).to(v.dtype) @ v

    return instead.forward(unet, Attend, forward)


@_trap(GEGLU, "The first half is the value, the second the gate.")
def geglu_halves(unet):
    """The first half of the linear's output taken for the gate, the second for the value."""
    return intervene(
        unet, "*.ff.net.0.proj", lambda both: torch.cat(both.chunk(2, dim=-1)[::-1], dim=-1)
    )


@_trap(GEGLU, "The exact GELU, with erf.")
def tanh_gelu(unet):
    """GELU by its approximation with tanh, the default of GPT-2 and of JAX."""

    def forward(self: GEGLU, hidden_states: Tensor) -> Tensor:
        value, gate = self.proj(hidden_states).chunk(2, dim=-1)
        return value * F.gelu(gate, approximate="tanh")

    return instead.forward(unet, GEGLU, forward)


# The U: between the levels


@_trap(Downsample2D, "Padding of 1 on all four sides.")
@contextmanager
def padding_right_and_below(unet):
    """One column right and one row below, as in the same family's VAE: the size is the same."""
    with (
        instead.attributes(unet, Downsample2D, lambda down: {"padding": 0}),
        instead.attributes(unet, Downsample2D, lambda conv: {"padding": (0, 0)}, part="conv"),
    ):
        yield


@_trap(UNet2DConditionModel, "Last in, first out.")
def skips_in_order(unet):
    """A block's skips taken first in, first out: what shapes do not forbid, nothing forbids."""

    def change(skips: list[Tensor]) -> list[Tensor]:
        alike: dict[torch.Size, list[Tensor]] = {}
        for skip in skips:
            alike.setdefault(skip.shape, []).append(skip)
        return [alike[skip.shape].pop() for skip in skips]

    return intervene(unet, "up_blocks.?", change, on="skips")


@_trap(UpBlock2D, "[stream, skip].")
@contextmanager
def skip_first(unet):
    """[skip, stream] at the concatenation: as many channels either way."""

    def turned(width: int) -> Callable[[Tensor], Tensor]:
        return lambda both: torch.cat([both[:, width:], both[:, :width]], dim=1)

    with ExitStack() as stack:
        for block in range(len(unet.up_blocks)):
            for i, width in enumerate(stream_widths(unet, block)):
                place = f"up_blocks.{block}.resnets.{i}"
                stack.enter_context(intervene(unet, place, turned(width), on="input"))
        yield


@_trap(Upsample2D, "Nearest: the convolution after it does the smoothing.")
def bilinear_upsampling(unet):
    """Bilinear enlargement, which looks smoother."""

    def forward(self: Upsample2D, hidden_states: Tensor, output_size: tuple[int, int]) -> Tensor:
        return self.conv(F.interpolate(hidden_states, size=output_size, mode="bilinear"))

    return instead.forward(unet, Upsample2D, forward)

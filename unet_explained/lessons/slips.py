"""Slips in a forward that check() knows by name: an answer that makes one has the slip's numbers.

A reference is run again with each slip of its class made on purpose, in the package's own modules.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..model.attention import GEGLU, Attention, Transformer2DModel
from ..model.resnet import ResnetBlock2D
from ..model.unet import UNet2DConditionModel
from . import instead
from .traps import TRAPS

On = Callable[[Any], AbstractContextManager[None]]  # with on(module): it makes the slip

NEAR = 0.1  # to a slip's numbers at most this much of what is off from the right ones


def slip_of(
    actual: Tensor, expected: Tensor, reference: nn.Module, *inputs: Any, **options: Any
) -> str:
    """The slip whose numbers these are, in a sentence, or "" if it is none of those known."""
    off = _apart(actual, expected)
    for sentence, on in slips_in(reference):
        try:
            with on(reference):
                wrong = reference(*inputs, **options)
        except (RuntimeError, ValueError):  # these sizes or this network leave no room for it
            continue
        wrong = wrong if isinstance(wrong, Tensor) else wrong[0]
        if wrong.shape == actual.shape and _apart(actual, wrong) < NEAR * off:
            return sentence
    return ""


def slips_in(reference: nn.Module) -> Iterator[tuple[str, On]]:
    """What can be done wrong in the forward of this class: a sentence, and how to make it."""
    # Not its type: the UNet of a pipeline is diffusers' model as well, by a class of its own.
    for kind in (known for known in LEFT_OUT | TURNED if isinstance(reference, known)):
        for step in LEFT_OUT.get(kind, ()):
            yield f"{step} is left out", partial(_with, kind, left_out=step)
        for sentence, options in TURNED.get(kind, {}).items():
            yield sentence, partial(_with, kind, **options)
        for name in TRAPS if kind is UNet2DConditionModel else OF_ONE_CLASS.get(kind, ()):
            yield f"“{name}”. {TRAPS[name].right}", TRAPS[name].on


def _with(kind: type[nn.Module], module: Any, **options) -> AbstractContextManager[None]:
    """A context in which the module's forward is the one below, with these options."""
    if kind is UNet2DConditionModel:
        return _without_part(module, **options)
    written = FORWARDS[kind]
    return instead.forward(
        module, kind, lambda self, *given, **named: written(self, *given, **named, **options)
    )


def resnet(
    self: ResnetBlock2D, input_tensor: Tensor, temb: Tensor, *, left_out: str = "", late=False
) -> Tensor:
    """A resnet's forward without one of its steps; late: the time comes after norm2."""
    x = input_tensor

    def silu(step: str, values: Tensor) -> Tensor:
        return values if step == left_out else self.nonlinearity(values)

    time = self.time_shift(self.time_emb_proj(silu("the SiLU in front of time_emb_proj", temb)))
    time = 0 * time if left_out == "the time" else time
    hidden = self.conv1(silu("the SiLU after norm1", self.norm1(x)))
    hidden = self.norm2(hidden) + time if late else self.norm2(hidden + time)
    hidden = self.conv2(silu("the SiLU after norm2", hidden))
    if left_out == "the sum with the input":
        return hidden
    return (self.conv_shortcut(x) if self.conv_shortcut else x) + hidden


def attention(
    self: Attention,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    left_out: str = "",
    heads: str = "(head head_dim)",
    over: int = -1,
    values: str = "to_v",
    own: bool = False,
) -> Tensor:
    """An attention's forward: other heads, a softmax over another axis, other values, own keys."""
    x, context = hidden_states, encoder_hidden_states
    context = x if context is None or own else context
    made = self.to_q(x), self.to_k(context), self.get_submodule(values)(context)
    split = f"batch token {heads} -> batch head token head_dim"
    q, k, v = (rearrange(each, split, head=self.heads) for each in made)
    root = 1 if left_out == "the division by the root of head_dim" else q.shape[-1] ** 0.5
    scores = q @ k.mT / root
    if attention_mask is not None:
        scores = scores + rearrange(attention_mask, "batch key -> batch 1 1 key")
    found = torch.softmax(scores, dim=over) @ v
    found = rearrange(found, "batch head query head_dim -> batch query (head head_dim)")
    return found if left_out == "to_out" else self.to_out(found)


def geglu(
    self: GEGLU, hidden_states: Tensor, *, gate=F.gelu, halves: tuple[int, int] = (0, 1)
) -> Tensor:
    """value * gate(gate), with another function at the gate, or the halves exchanged."""
    both = self.proj(hidden_states).chunk(2, dim=-1)
    value, given = (both[i] for i in halves)
    return value * gate(given)


def _without_part(unet: UNet2DConditionModel, left_out: str) -> AbstractContextManager[None]:
    """What it is given, the part hands on."""
    if left_out == "every transformer":
        return instead.forward(unet, Transformer2DModel, lambda self, x, *rest: x)
    part = getattr(unet, left_out) or nn.Module()  # some UNets lack one of them
    return instead.attributes(part, type(part), lambda same: {"forward": lambda x, *rest: x})


def _apart(one: Tensor, other: Tensor) -> float:
    return (one.double().cpu() - other.double().cpu()).abs().max().item()


FORWARDS: dict[type[nn.Module], Callable[..., Tensor]] = {
    ResnetBlock2D: resnet,
    Attention: attention,
    GEGLU: geglu,
}

LEFT_OUT: dict[type[nn.Module], tuple[str, ...]] = {
    ResnetBlock2D: (
        "the SiLU after norm1", "the SiLU in front of time_emb_proj", "the time",
        "the SiLU after norm2", "the sum with the input",
    ),
    Attention: ("the division by the root of head_dim", "to_out"),
    UNet2DConditionModel: ("conv_norm_out", "conv_act", "mid_block", "every transformer"),
}  # fmt: skip

TURNED: dict[type[nn.Module], dict[str, dict[str, Any]]] = {
    ResnetBlock2D: {"the time is added after norm2, not before it": {"late": True}},
    Attention: {
        "keys and values are made of the picture; a context is there for them": {"own": True},
        "the softmax is over the queries; a query's weights, over the keys, sum to 1": {"over": -2},
        "the keys are taken for the values": {"values": "to_k"},
        "heads lie one after another in the channels: (head head_dim), not (head_dim head)": {
            "heads": "(head_dim head)"
        },
    },
    GEGLU: {
        "the halves are exchanged: the first is the value, the second the gate": {"halves": (1, 0)},
        "a sigmoid at the gate: that is a GLU; the gate's function is GELU": {
            "gate": torch.sigmoid
        },
        "nothing is done to the gate: gelu(gate)": {"gate": lambda gate: gate},
        "the tanh approximation; the GELU is the exact one, with erf": {
            "gate": partial(F.gelu, approximate="tanh")
        },
    },
}

# Of the traps those that one module alone can make.
OF_ONE_CLASS: dict[type[nn.Module], tuple[str, ...]] = {
    Attention: ("head size for heads", "no bias after attention"),
}

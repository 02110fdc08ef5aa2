"""Floating-point operations of one module call, from its shapes: a multiply-add counts as two.

Convolutions, linears and attention are counted, as torch's FlopCounterMode does; norms,
activations and sums, about one operation a number, are not.
"""

from math import prod

from .axes import Call


def flops(call: Call) -> int:
    """Of the call itself, without those of the modules it calls."""
    return COUNT[call.kind](call) if call.kind in COUNT else 0


def _conv2d(call: Call) -> int:
    """Each number of the output is a sum over the kernel and the channels of its group."""
    return 2 * prod(call.outputs[0].shape) * prod(call.parameters["weight"][1:])


def _linear(call: Call) -> int:
    return 2 * prod(call.outputs[0].shape) * call.parameters["weight"][1]


def _attend(call: Call) -> int:
    """Scores, q k, then their sum over v: both batch * head * query * key * head_dim."""
    q, k, v = (seen.shape for seen in call.inputs[:3])
    return 2 * prod(q[:3]) * k[2] * (q[3] + v[3])


def attention_flops(call: Call) -> int:
    """Of an attention that hides its queries and keys: the same, by what it was given."""
    hidden, *others = (seen for seen in call.inputs if seen.name != "attention_mask")
    batch, queries, channels = prod(hidden.shape[:1]), hidden.shape[1], hidden.shape[-1]
    keys = others[0].shape[1] if others else queries
    return 4 * batch * queries * keys * channels


COUNT = {"Conv2d": _conv2d, "Linear": _linear, "Attend": _attend}

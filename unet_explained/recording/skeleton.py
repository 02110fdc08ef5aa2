"""The network without weights or numbers: built on the meta device, run for its shapes only.

torch answers most functions on the meta device in Python made for its compiler: half a second for
a forward of SD 1.5, and two more to load that Python the first time. The rules below answer the
functions of this network from the shapes of their arguments, twenty times as fast.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..model import UNet2DConditionModel, UNetConfig
from .axes import Call, Trace


def _like(x, shape):
    return torch.empty(shape, dtype=x.dtype, device="meta")


def _first(x, *args, **kwargs):
    return x


def _broadcast(x, y):
    same = not isinstance(y, Tensor) or x.shape == y.shape
    return x if same else torch.broadcast_tensors(x, y)[0]


def _conv2d(x, weight, bias, stride, padding, *undilated):
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding)
    sides = [(side + 2 * pad - kernel) // step + 1 for side, kernel, step, pad in sides]
    return _like(x, (x.shape[0], weight.shape[0], *sides))


def _linear(x, weight, bias=None):
    return _like(x, (*x.shape[:-1], weight.shape[0]))


def _attend(q, k, v, **how):
    return _like(q, (*q.shape[:-1], v.shape[-1]))


def _cat(tensors, dim=0):
    shape = list(tensors[0].shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return _like(tensors[0], shape)


def _interpolate(x, size, **how):
    return _like(x, (*x.shape[:2], *size))


def _arange(end, **kwargs):
    return torch.empty(end, **kwargs)


# Any other function is left to torch: slower, equally right.
RULES = {
    **dict.fromkeys((F.group_norm, F.layer_norm, F.silu, F.gelu), _first),
    **dict.fromkeys((torch.exp, Tensor.cos, Tensor.sin, Tensor.fill_, Tensor.zero_), _first),
    **dict.fromkeys((Tensor.add, Tensor.mul, Tensor.div), _broadcast),
    F.conv2d: _conv2d,
    F.linear: _linear,
    F.scaled_dot_product_attention: _attend,
    F.interpolate: _interpolate,
    torch.cat: _cat,
    torch.arange: _arange,
}


class ShapesOnly(TorchFunctionMode):
    """Within it, parameters are made on the meta device in one dtype and never initialised."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.made = {"device": "meta", "dtype": dtype}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in RULES:
            return RULES[function](*args, **kwargs)
        if getattr(function, "__module__", None) == "torch.nn.init":
            return None
        return function(*args, **(kwargs | self.made if function is torch.empty else kwargs))


def skeleton(config: UNetConfig, dtype: torch.dtype) -> UNet2DConditionModel:
    """The model in its names and shapes, without a byte of weights."""
    with ShapesOnly(dtype):
        return UNet2DConditionModel(config).eval()


def trace_config(
    config: UNetConfig, dtype: torch.dtype, batch: int, height: int, width: int, tokens: int
) -> list[Call]:
    """Every module call of one forward; height and width are the latents'.

    ValueError for sizes whose bytes torch cannot count.
    """
    _expect_countable(config, batch, height, width, tokens)
    model = skeleton(config, dtype)
    inputs = example_inputs(config, dtype, batch, height, width, tokens)
    with torch.no_grad(), ShapesOnly(dtype), Trace(model) as trace:
        model(**inputs)
    return trace.calls


def _expect_countable(config: UNetConfig, batch: int, height: int, width: int, tokens: int) -> None:
    """Whether the largest tensors, a feed-forward's and the prompt, have bytes within 64 bits."""
    widest = 8 * max(config.block_out_channels)
    numbers = batch * max(height * width, tokens) * max(widest, config.at("cross_attention_dim", 0))
    if 8 * numbers >= 2**63:
        raise ValueError(
            f"batch {batch}, latents {height}x{width}, {tokens} tokens: larger than any machine; "
            "ask for smaller sizes"
        )


def example_inputs(
    config: UNetConfig, dtype: torch.dtype, batch: int, height: int, width: int, tokens: int
) -> dict:
    """Arguments for the model's forward, all that it needs, on the meta device."""

    def made(*shape, dtype=dtype):
        return torch.empty(shape, dtype=dtype, device="meta")

    inputs = {
        "sample": made(batch, config.in_channels, height, width),
        "timestep": made(dtype=torch.int64),
        "encoder_hidden_states": made(batch, tokens, config.at("cross_attention_dim", 0)),
    }
    projected = config.projection_class_embeddings_input_dim
    if config.class_embed_type in ("projection", "simple_projection"):
        inputs["class_labels"] = made(batch, projected)
    elif config.class_embed_type == "identity":
        inputs["class_labels"] = made(batch, config.time_embed_dim)
    elif config.class_embed_type == "timestep" or config.num_class_embeds:
        inputs["class_labels"] = made(batch, dtype=torch.int64)
    if config.time_cond_proj_dim:
        inputs["timestep_cond"] = made(batch, config.time_cond_proj_dim)
    if config.addition_embed_type == "text_time":
        # SDXL is told size, crop and target size as six numbers; its refiner, five: size, crop and
        # a score of beauty. Both have the pooled prompt, 1280 wide, in front.
        waves = config.addition_time_embed_dim
        ids = 5 if projected - 5 * waves == 1280 else 6
        added = {"text_embeds": made(batch, projected - ids * waves), "time_ids": made(batch, ids)}
        inputs["added_cond_kwargs"] = added
    return inputs

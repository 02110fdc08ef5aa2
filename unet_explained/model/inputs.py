"""What forward was given: checked against the config before any work is done, and put in order.

What diffusers makes use of is taken, and what it passes over refused. Nothing here waits for a
device: numbers in a tensor are looked at on the CPU alone, and only where they are an index.
"""

from numbers import Real
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.compiler import is_compiling

from .blocks import BLOCKS, Context
from .config import UNetConfig
from .expect import Axes, expect, fits, is_of, kind_of, written

BROADCAST: Any = dict(least=0, ones=4)
MASKED = -10000.0  # added to the score of a key not to be looked at; the reference's, not -inf


class Residuals(NamedTuple):
    """What a T2I-Adapter adds to features, and a ControlNet to skips and mid; None: nothing."""

    down: list[Float[Tensor, "batch channel _ _"] | None]  # the adapter's, one a down block
    skips: tuple[Float[Tensor, "batch channel _ _"], ...] | list | None
    mid: list[Float[Tensor, "batch channel height width"]]

    def added_to_skips(
        self, skips: list[Float[Tensor, "batch _ _ _"]]
    ) -> list[Float[Tensor, "batch _ _ _"]]:
        if self.skips is None:
            return skips
        return [skip + residual for skip, residual in zip(skips, self.skips, strict=True)]

    def added_to_mid(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        for residual in self.mid:
            x = x + residual
        return x


def prepare(
    config: UNetConfig,
    conv_in: nn.Module,
    sample: Float[Tensor, "batch channel height width"],
    timestep: Shaped[Tensor, "*batch"] | float | int,
    encoder_hidden_states: Float[Tensor, "batch token text"],
    *,
    attention_mask: Shaped[Tensor, "batch key"] | None,
    encoder_attention_mask: Shaped[Tensor, "batch token"] | None,
    control: tuple[tuple | list | None, Tensor | None],
    adapter: tuple | list | None,
    **conditions,
) -> tuple[Context, Residuals]:
    """The context that attentions look at, and what is added from outside.

    conv_in: what the sample meets first. control: a ControlNet's residuals, (of the skips, of mid);
    adapter: a T2I-Adapter's. Raises ValueError or TypeError, naming the argument, for anything that
    does not fit the config, or that this model has no use for.
    """
    _check_sample(config, conv_in, sample)
    _check_timestep(timestep, sample)
    width = config.at("cross_attention_dim", 0)
    hint = "; is this the text encoder of another model?"
    text = (len(sample), "tokens", width)
    expect("encoder_hidden_states", encoder_hidden_states, text, sample, hint=hint)
    tokens = encoder_hidden_states.shape[1]
    _check_masks(config, sample, tokens, attention_mask, encoder_attention_mask)
    _check_conditions(config, sample, **conditions)
    control_skips, control_mid = control
    if not control_skips is control_mid is adapter is None:
        _check_residuals(config, sample, control_skips, control_mid, adapter)
    context = Context(
        encoder_hidden_states,
        _additive(attention_mask, sample.dtype),
        _additive(encoder_attention_mask, sample.dtype),
    )
    given = list(adapter or ())
    down = given[: config.levels] or [None] * config.levels
    mid = [residual for residual in (*given[config.levels :], control_mid) if residual is not None]
    return context, Residuals(down, control_skips, mid)


def _additive(
    mask: Shaped[Tensor, "batch key"] | None, dtype: torch.dtype
) -> Float[Tensor, "batch key"] | None:
    """1 for look and 0 for pass over, as a number to add to the scores: 0 or -10000."""
    return None if mask is None else (1 - mask.to(dtype)) * MASKED


def _check_sample(config: UNetConfig, conv_in: nn.Module, sample: Any) -> None:
    """Latents of which every level has a pixel, for the model as it is."""
    axes = ("batch", config.in_channels, "height", "width")
    if not (isinstance(sample, Tensor) and fits(sample.shape, axes, 4, 0)):
        given = tuple(sample.shape) if isinstance(sample, Tensor) else kind_of(sample)
        error = ValueError if isinstance(sample, Tensor) else TypeError
        raise error(f"sample: expected a tensor, {written(axes)} latents, got {given}")
    smallest = 1 if config.downsample_padding else 2 ** (config.levels - 1)
    if len(sample) == 0 or min(sample.shape[2:]) < smallest:
        expected = f"1 picture or more with sides of {smallest} or more"
        raise ValueError(f"sample: expected {expected}, got {tuple(sample.shape)}")
    weight = conv_in.weight
    if sample.device == weight.device and sample.dtype == weight.dtype:
        return
    if "forward" in vars(conv_in):
        return  # somebody brings its weights when it is called: accelerate, or diffusers' hooks
    if sample.device != weight.device:
        where = f"it is on {sample.device}, the model on {weight.device}"
        raise ValueError(f"sample: {where}; move one of them with .to()")
    if not is_of("same", sample, weight):
        numbers = f"the model's {weight.dtype}, got {sample.dtype}"
        raise ValueError(f"sample: expected {numbers}; pass it .to(unet.dtype)")


def _check_timestep(timestep: Any, sample: Tensor) -> None:
    """A number or a tensor of them, one for all samples or one for each."""
    if not isinstance(timestep, Tensor):
        if not isinstance(timestep, Real):
            kind = kind_of(timestep)
            raise TypeError(f"timestep: expected a number, or a tensor of them, got {kind}")
        return
    given, batch = tuple(timestep.shape), len(sample)
    if len(given) > 1 or timestep.numel() not in (1, batch):
        count = given if len(given) > 1 else timestep.numel()
        expected = f"one for all or one for each of {batch} samples"
        raise ValueError(f"timestep: expected {expected}, got {count}")
    if timestep.is_complex() or (timestep.is_meta and not sample.is_meta):
        kind = f"{timestep.dtype} on {timestep.device}"
        raise ValueError(f"timestep: expected a real number that can be read, got {kind}")


def _check_masks(config: UNetConfig, sample: Tensor, tokens: int, mask: Any, text: Any) -> None:
    """A mask has as many keys as each attention that it is for."""
    if text is not None:
        expect("encoder_attention_mask", text, (len(sample), tokens), sample, "real")
    if mask is None:
        return
    counts = _keys_of_attn1(config, sample, tokens)
    if len(counts) != 1:
        looks = " or ".join(map(str, sorted(counts)))
        raise ValueError(
            f"attention_mask: attn1 looks at {looks} keys, by level, so no mask fits all; pass None"
            " (encoder_attention_mask is the prompt's)"
        )
    expect("attention_mask", mask, (len(sample), *counts), sample, "real")


def _keys_of_attn1(config: UNetConfig, sample: Tensor, tokens: int) -> set[int]:
    """How many keys attn1 has, on all levels: a level's pixels, or tokens if it looks at them."""
    counts = set()
    for level, (height, width) in enumerate(config.sizes(*sample.shape[2:])):
        for side in config.attending_sides(level):
            cross = side != "mid" and config.at("only_cross_attention", level)
            counts.add(tokens if cross else height * width)
    return counts


def _check_conditions(
    config: UNetConfig, sample: Tensor,
    class_labels, timestep_cond, cross_attention_kwargs, added_cond_kwargs,
) -> None:  # fmt: skip
    """A condition that this model needs is there, and none that it lacks."""
    labelled = config.class_embed_type is not None or config.num_class_embeds is not None
    if labelled != (class_labels is not None):
        which = "needs them" if labelled else "has no class embedding"
        raise ValueError(f"class_labels: this model {which}")
    if labelled:
        _check_class(config, sample, class_labels)
    if timestep_cond is not None:
        channels = config.time_cond_proj_dim
        if channels is None:
            missing = "this model has no guidance embedding (time_cond_proj_dim is null)"
            raise ValueError(f"timestep_cond: {missing}")
        expect("timestep_cond", timestep_cond, (len(sample), channels), sample, least=1, ones=1)
    if used := _said("cross_attention_kwargs", cross_attention_kwargs):
        raise ValueError(f"cross_attention_kwargs: nothing uses {list(used)}; pass None")
    added = _said("added_cond_kwargs", added_cond_kwargs)
    takes = ["text_embeds", "time_ids"] if config.addition_embed_type == "text_time" else []
    if unused := [name for name in added if name not in takes]:
        raise ValueError(f"added_cond_kwargs: nothing uses {unused}; this model takes {takes}")
    if missing := [name for name in takes if name not in added]:
        raise ValueError(f"added_cond_kwargs: this model also needs {missing}")
    if takes:
        _check_added(config, sample, **added)


def _said(name: str, given: Any) -> dict:
    """What a dict of further arguments says."""
    if not (given is None or isinstance(given, dict)):
        raise TypeError(f"{name}: expected a dict, or None, got {kind_of(given)}")
    return {key: value for key, value in (given or {}).items() if value is not None}


def _check_class(config: UNetConfig, sample: Tensor, labels: Any) -> None:
    """A number for each sample, or a vector; one may be for all."""
    name, batch, kind = "class_labels", len(sample), config.class_embed_type
    if kind == "timestep":
        expect(name, labels, (batch,), sample, "real", least=1, ones=1)
    elif kind == "identity":
        expect(name, labels, (batch, config.time_embed_dim), sample, "real", least=0, ones=2)
    elif kind is not None:
        width = config.projection_class_embeddings_input_dim
        expect(name, labels, (batch, width), sample, least=1, ones=1)
    else:
        expect(name, labels, (batch,), sample, "whole", least=0, ones=1)
        # On CUDA a look would wait for the device; of a compiler's tensor there is nothing to see.
        if labels.device.type == "cpu" and type(labels) is Tensor and not is_compiling():
            low, high, rows = labels.min().item(), labels.max().item(), config.num_class_embeds
            if low < 0 or high >= rows:
                expected = f"numbers from 0 to {rows - 1}"
                raise ValueError(f"{name}: expected {expected}, got {low} to {high}")


def _check_added(config: UNetConfig, sample: Tensor, text_embeds: Any, time_ids: Any) -> None:
    """SDXL's: the pooled prompt, and numbers that become waves, together of one width."""
    text, ids = "added_cond_kwargs['text_embeds']", "added_cond_kwargs['time_ids']"
    expect(text, text_embeds, (len(sample), "pooled"), sample, "real", ones=1)
    rows, flat = len(text_embeds), getattr(time_ids, "ndim", 2) == 1
    expect(ids, time_ids, ("ids",) if flat else (rows, "ids"), sample, "real")
    pooled, waves = text_embeds.shape[1], config.addition_time_embed_dim
    width = config.projection_class_embeddings_input_dim
    if pooled * rows + time_ids.numel() * waves != width * rows:
        raise ValueError(
            f"added_cond_kwargs: expected text_embeds and time_ids, of which each becomes {waves} "
            f"numbers, to be {width} together, got {tuple(text_embeds.shape)} and "
            f"{tuple(time_ids.shape)}"
        )


def _check_residuals(config: UNetConfig, sample: Tensor, down: Any, mid: Any, adapter: Any) -> None:
    """ControlNet's and T2I-Adapter's residuals have their places, and fit them."""
    if (down is None) != (mid is None):
        raise ValueError(
            "ControlNet: pass both down_block_additional_residuals and "
            "mid_block_additional_residual, or neither (a T2I-Adapter's are "
            "down_intrablock_additional_residuals)"
        )
    skips, inside, bottom = _places(config, sample)
    extra = config.mid_block_type is not None
    counts = [len(inside), len(inside) + 1][: 1 + extra]
    for name, residuals, places, allowed in (
        ("down_block_additional_residuals", down, skips, [len(skips)]),
        ("down_intrablock_additional_residuals", adapter, [*inside, bottom], counts),
    ):
        if residuals is None:
            continue
        if not isinstance(residuals, (tuple, list)):
            raise TypeError(f"{name}: expected a list of tensors, got {kind_of(residuals)}")
        if len(residuals) not in allowed:
            expected = " or ".join(map(str, allowed))
            raise ValueError(f"{name}: expected {expected}, got {len(residuals)}")
        for number, (residual, axes) in enumerate(zip(residuals, places)):
            # An adapter may leave a block out. To mid the reference adds only what has its shape.
            exact = residuals is adapter and number == len(inside)
            wide = {} if exact else BROADCAST
            if residual is not None or residuals is not adapter:
                expect(f"{name}[{number}]", residual, axes, sample, "added", **wide)
    if mid is not None:
        expect("mid_block_additional_residual", mid, bottom, sample, "added", **BROADCAST)


def _places(config: UNetConfig, sample: Tensor) -> tuple[list[Axes], list[Axes], Axes]:
    """The axes of each skip, of what an adapter adds to in each down block, and of mid."""
    batch, widths, sizes = len(sample), config.block_out_channels, config.sizes(*sample.shape[2:])
    skips: list[Axes] = [(batch, widths[0], *sizes[0])]
    inside: list[Axes] = []
    for level, (channels, size, smaller) in enumerate(zip(widths, sizes, [*sizes[1:], None])):
        skips += [(batch, channels, *size)] * config.at("layers_per_block", level)
        if smaller:
            skips.append((batch, channels, *smaller))
        block = BLOCKS[config.at("down_block_types", level)]
        where = size if block.adapter_before_downsampling else smaller or size
        inside.append((batch, channels, *where))
    return skips, inside, (batch, widths[-1], *sizes[-1])

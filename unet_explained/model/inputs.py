"""What forward was given: checked against the config before any work is done, and put in order.

What diffusers makes use of is taken, and what it passes over refused. Nothing here waits for a
device: numbers in a tensor (times, classes) are looked at on the CPU alone.
"""

from numbers import Real
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.compiler import is_compiling

from .blocks import Context
from .config import UNetConfig
from .expect import expect, fits, is_of, kind_of, written
from .residuals import Residuals, check_residuals

LATEST = 10_000  # of timesteps, either way: schedulers count to 1000, EDM's from -2 to 2
MASKED = -10000.0  # added to the score of a key not to be looked at; the reference's, not -inf


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
    if any(given is not None for given in (control_skips, control_mid, adapter)):
        check_residuals(config, sample, control_skips, control_mid, adapter)
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
    expected = f"sample: expected a tensor, {written(axes)} latents, got"
    if not isinstance(sample, Tensor):
        raise TypeError(f"{expected} {kind_of(sample)}")
    if not fits(sample.shape, axes, len(axes)):
        raise ValueError(f"{expected} {tuple(sample.shape)}")
    smallest = 1 if config.downsample_padding else 2 ** (config.levels - 1)
    if len(sample) == 0 or min(sample.shape[2:]) < smallest:
        expected = f"1 picture or more with sides of {smallest} or more"
        raise ValueError(f"sample: expected {expected}, got {tuple(sample.shape)}")
    weight: Any = conv_in.weight
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
        if isinstance(timestep, bool) or not isinstance(timestep, Real):
            kind = kind_of(timestep)
            raise TypeError(f"timestep: expected a number, or a tensor of them, got {kind}")
        _check_range("timestep", [timestep], -LATEST, LATEST)
        return
    given, batch = tuple(timestep.shape), len(sample)
    if len(given) > 1 or timestep.numel() not in (1, batch):
        count = given if len(given) > 1 else timestep.numel()
        expected = f"one for all or one for each of {batch} samples"
        raise ValueError(f"timestep: expected {expected}, got {count}")
    if timestep.is_complex() or (timestep.is_meta and not sample.is_meta):
        kind = f"{timestep.dtype} on {timestep.device}"
        raise ValueError(f"timestep: expected a real number that can be read, got {kind}")
    _check_range("timestep", _seen(timestep), -LATEST, LATEST)


def _seen(numbers: Tensor) -> list[float]:
    """Those that can be read without waiting for a device: none on CUDA, or while it compiles."""
    at_hand = type(numbers) is Tensor and numbers.device.type == "cpu" and not is_compiling()
    return rearrange(numbers, "... -> (...)").tolist() if at_hand else []


def _check_range(name: str, numbers: list, low: int, high: int) -> None:
    for number in numbers:
        if not low <= number <= high:  # nor is NaN
            raise ValueError(f"{name}: expected numbers from {low} to {high}, got {number}")


def _check_masks(config: UNetConfig, sample: Tensor, tokens: int, mask: Any, text: Any) -> None:
    """A mask has as many keys as each attention that it is for."""
    if text is not None:
        expect("encoder_attention_mask", text, (len(sample), tokens), sample, "real")
    if mask is None:
        return
    counts = _keys_of_attn1(config, sample, tokens)
    if not counts:
        raise ValueError("attention_mask: this model has no attention; pass None")
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
            lacks = "this model has no guidance embedding (time_cond_proj_dim is null)"
            raise ValueError(f"timestep_cond: {lacks}")
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
        _check_range(name, _seen(labels), 0, config.num_class_embeds - 1)


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

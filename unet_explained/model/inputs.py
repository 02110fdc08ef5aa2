"""What forward was given: checked against the config before any work is done, and put in order."""

from typing import NamedTuple

from jaxtyping import Float, Shaped
from torch import Tensor, dtype

from .blocks import Context
from .config import UNetConfig

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

    control: a ControlNet's residuals, (of the skips, of mid); adapter: a T2I-Adapter's. Raises
    ValueError for anything that does not fit the config, or that this model has no use for.
    """
    _check_latents_and_prompt(config, sample, timestep, encoder_hidden_states)
    _check_conditions(config, **conditions)
    _check_masks(config, sample, encoder_hidden_states, attention_mask, encoder_attention_mask)
    control_skips, control_mid = control
    _check_residuals(config, control_skips, control_mid, adapter)
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
    mask: Shaped[Tensor, "batch key"] | None, dtype: dtype
) -> Float[Tensor, "batch key"] | None:
    """1 for look and 0 for pass over, as a number to add to the scores: 0 or -10000."""
    return None if mask is None else (1 - mask.to(dtype)) * MASKED


def _expect(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)


def _check_latents_and_prompt(config: UNetConfig, sample, timestep, prompt) -> None:
    """What every model needs fits it and each other."""
    _expect(
        sample.ndim == 4 and sample.shape[1] == config.in_channels,
        f"sample: expected (batch, {config.in_channels}, height, width) latents, "
        f"got {tuple(sample.shape)}",
    )
    halvings = config.levels - 1
    least = 1 if config.downsample_padding else 2**halvings
    _expect(
        min(sample.shape[-2:]) >= least,
        f"sample: expected {least} pixels or more a side, to be halved {halvings} times, got "
        f"{sample.shape[-2]} x {sample.shape[-1]}",
    )
    batch = len(sample)
    timesteps = timestep.numel() if isinstance(timestep, Tensor) else 1
    _expect(
        timesteps in (1, batch),
        f"timestep: expected one for all or one for each of {batch} samples, got {timesteps}",
    )
    width, text = config.at("cross_attention_dim", 0), tuple(prompt.shape)
    _expect(
        len(text) == 3 and text[0] == batch and text[-1] == width,
        f"encoder_hidden_states: expected ({batch}, tokens, {width}), got {text}; is this the "
        "text encoder of another model?",
    )


def _check_conditions(
    config: UNetConfig, class_labels, timestep_cond, cross_attention_kwargs, added_cond_kwargs
) -> None:
    """A condition that this model needs is there, and none that it lacks."""
    labelled = config.class_embed_type is not None or config.num_class_embeds is not None
    _expect(
        labelled == (class_labels is not None),
        "class_labels: this model " + ("needs them" if labelled else "has no class embedding"),
    )
    _expect(
        timestep_cond is None or config.time_cond_proj_dim is not None,
        "timestep_cond: this model has no guidance embedding (time_cond_proj_dim is null)",
    )
    unused = list(cross_attention_kwargs or ())
    _expect(not unused, f"cross_attention_kwargs: nothing uses {unused}; pass None")
    needed = {"text_embeds", "time_ids"} if config.addition_embed_type == "text_time" else set()
    missing = needed - set(added_cond_kwargs or ())
    _expect(not missing, f"added_cond_kwargs: this model also needs {sorted(missing)}")


def _check_masks(config: UNetConfig, sample, prompt, attention_mask, encoder_mask) -> None:
    """A mask has as many keys as each attention that it is for."""
    (batch, tokens), (height, width) = prompt.shape[:2], sample.shape[-2:]
    keys = _keys_of_attn1(config, height, width, tokens)
    for name, mask, counts in (
        ("attention_mask", attention_mask, keys),
        ("encoder_attention_mask", encoder_mask, {tokens}),
    ):
        if mask is None:
            continue
        _expect(bool(counts), f"{name}: this model has no attention; pass None")
        _expect(
            len(counts) == 1,
            f"{name}: attn1 looks at {' or '.join(map(str, sorted(counts)))} keys, by level, so no "
            "mask fits all; pass None (encoder_attention_mask is the prompt's)",
        )
        expected = (batch, *counts)
        _expect(
            tuple(mask.shape) == expected,
            f"{name}: expected a mask of {expected}, (batch, keys), got {tuple(mask.shape)}",
        )


def _keys_of_attn1(config: UNetConfig, height: int, width: int, tokens: int) -> set[int]:
    """How many keys attn1 has, on all levels: a level's pixels, or tokens if it looks at them."""
    counts = set()
    for level in range(config.levels):
        for side in config.attending_sides(level):
            cross = side != "mid" and config.at("only_cross_attention", level)
            counts.add(tokens if cross else height * width)
        height, width = ((n + config.downsample_padding) // 2 for n in (height, width))
    return counts


def _check_residuals(config: UNetConfig, control_down, control_mid, adapter) -> None:
    """ControlNet's and T2I-Adapter's residuals have their places."""
    blocks, mid = config.levels, config.mid_block_type is not None
    skips = blocks + sum(config.at("layers_per_block", level) for level in range(blocks))
    _expect(
        (control_down is None) == (control_mid is None),
        "ControlNet: pass both down_block_additional_residuals and mid_block_additional_residual, "
        "or neither (a T2I-Adapter's are down_intrablock_additional_residuals)",
    )
    for name, residuals, allowed in (
        ("down_block_additional_residuals", control_down, (skips,)),
        ("down_intrablock_additional_residuals", adapter, (blocks, blocks + 1)[: 1 + mid]),
    ):
        _expect(
            residuals is None or len(residuals) in allowed,
            f"{name}: expected {' or '.join(map(str, allowed))}, got {len(residuals or ())}",
        )

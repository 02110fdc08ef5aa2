"""What forward was given, checked against the config before any work is done."""

from jaxtyping import Float, Shaped
from torch import Tensor, dtype

from .config import UNetConfig

MASKED = -10000.0  # added to the score of a key not to be looked at; the reference's, not -inf


def additive_mask(
    mask: Shaped[Tensor, "batch key"] | None, dtype: dtype
) -> Float[Tensor, "batch key"] | None:
    """1 for look and 0 for pass over, as a number to add to the scores: 0 or -10000."""
    return None if mask is None else (1 - mask.to(dtype)) * MASKED


def _expect(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)


def check_latents_and_prompt(config: UNetConfig, sample, timestep, prompt) -> None:
    """Raise ValueError unless the tensors every model needs fit it and each other."""
    batch, channels = len(sample), config.in_channels
    _expect(
        sample.ndim == 4 and sample.shape[1] == channels,
        f"sample: expected (batch, {channels}, height, width) latents, got {tuple(sample.shape)}",
    )
    steps = timestep.numel() if isinstance(timestep, Tensor) else 1
    _expect(
        steps in (1, batch),
        f"timestep: expected one for all or one for each of {batch} samples, got {steps}",
    )
    width, text = config.at("cross_attention_dim", 0), tuple(prompt.shape)
    _expect(
        len(text) == 3 and text[0] == batch and text[-1] == width,
        f"encoder_hidden_states: expected ({batch}, tokens, {width}), got {text}; is this the "
        "text encoder of another model?",
    )


def check_conditions(config: UNetConfig, class_labels, timestep_cond, kwargs, added) -> None:
    """Raise ValueError if a condition this model needs is missing, or one it lacks is given."""
    labelled = config.class_embed_type is not None or config.num_class_embeds is not None
    _expect(
        labelled == (class_labels is not None),
        "class_labels: this model " + ("needs them" if labelled else "has no class embedding"),
    )
    _expect(
        timestep_cond is None or config.time_cond_proj_dim is not None,
        "timestep_cond: this model has no guidance embedding (time_cond_proj_dim is null)",
    )
    _expect(not kwargs, f"cross_attention_kwargs: nothing uses {list(kwargs or ())}; pass None")
    needed = {"text_embeds", "time_ids"} if config.addition_embed_type == "text_time" else set()
    missing = needed - set(added or ())
    _expect(not missing, f"added_cond_kwargs: this model also needs {sorted(missing)}")


def check_residuals(config: UNetConfig, control_down, control_mid, adapter) -> None:
    """Raise ValueError unless ControlNet's and T2I-Adapter's residuals have their places."""
    blocks, mid = config.levels, config.mid_block_type is not None
    skips = blocks + sum(config.at("layers_per_block", level) for level in range(blocks))
    _expect(
        (control_down is None) == (control_mid is None),
        "ControlNet: pass both down_block_additional_residuals and mid_block_additional_residual, "
        "or neither (a T2I-Adapter's are down_intrablock_additional_residuals)",
    )
    for name, given, allowed in (
        ("down_block_additional_residuals", control_down, (skips,)),
        ("down_intrablock_additional_residuals", adapter, (blocks, blocks + 1)[: 1 + mid]),
    ):
        _expect(
            given is None or len(given) in allowed,
            f"{name}: expected {' or '.join(map(str, allowed))}, got {len(given or ())}",
        )

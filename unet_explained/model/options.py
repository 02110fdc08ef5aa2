"""What the options of a UNet's config may be, each alone and together, checked before any work.

Types stand in UNetConfig's annotations. Here are the ranges, the choices, and what is read past.
"""

from dataclasses import fields
from types import NoneType
from typing import get_args, get_origin

from ..words import brief

# Options with a choice of values, and those this package covers.
ALLOWED = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "act_fn": ("silu", "swish", "mish", "gelu", "relu"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None, "timestep", "identity", "projection", "simple_projection"),
    "addition_embed_type": (None, "text_time"),
    "downsample_padding": (0, 1),
}

# The lowest and the highest value of every number that an option has, alone or in a list.
WIDEST = 2**16
RANGES = {
    "sample_size": (1, 2**14),
    "in_channels": (1, WIDEST),
    "out_channels": (1, WIDEST),
    "freq_shift": (0, WIDEST),
    "block_out_channels": (1, WIDEST),
    "layers_per_block": (1, 32),
    "mid_block_scale_factor": (1e-6, 1e6),
    "dropout": (0, 1),
    "norm_num_groups": (1, WIDEST),
    "norm_eps": (0, 1),
    "cross_attention_dim": (1, WIDEST),
    "transformer_layers_per_block": (0, 128),
    "reverse_transformer_layers_per_block": (0, 128),
    "attention_head_dim": (1, WIDEST),
    "num_class_embeds": (1, 2**24),
    "addition_time_embed_dim": (2, WIDEST),
    "projection_class_embeddings_input_dim": (1, 2**20),
    "time_cond_proj_dim": (1, WIDEST),
    "conv_in_kernel": (1, 63),
    "conv_out_kernel": (1, 63),
    "resnet_out_scale_factor": (1e-6, 1e6),
}
DEEPEST = 16  # levels
MOST_BLOCKS = 1024  # resnets and transformer blocks, of which SDXL has 87: more would seem to hang

PER_LEVEL = (
    "down_block_types", "up_block_types", "only_cross_attention", "layers_per_block",
    "cross_attention_dim", "attention_head_dim", "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
)  # fmt: skip

# Options of the reference that this package does not cover, each with the values that mean "off".
NOT_COVERED = {
    "num_attention_heads": (None,),
    "dual_cross_attention": (False, None),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "attention_type": ("default", None),
    "class_embeddings_concat": (False, None),
    "cross_attention_norm": (None,),
    "mid_block_only_cross_attention": (None, False),
    "time_embedding_type": ("positional", None),
    "time_embedding_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "addition_embed_type_num_heads": (64, None),
}
# Two more of the reference's Flax class.
FLAX = {"use_memory_efficient_attention": (False, None), "split_head_dim": (False, None)}

# How the weights were averaged in training, which a UNet saved by diffusers' EMAModel says too.
EMA = (
    "decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step",
    "use_ema_warmup",
)  # fmt: skip


def is_read_past(name: str, value) -> bool:
    """Whether an option that is no field of UNetConfig makes no difference to the network."""
    if name.startswith("_") or name in EMA:
        return True
    offs = (NOT_COVERED | FLAX).get(name, (None,))
    return any(type(value) is type(off) and value == off for off in offs)


def check(config) -> None:
    """Raises ValueError, with name, value and what is allowed, for what makes no network."""
    for field in fields(config):
        _check_alone(field.name, getattr(config, field.name), field.type)
    levels = config.levels
    _expect(config, 1 <= levels <= DEEPEST, "block_out_channels", f"1 to {DEEPEST} entries")
    for option in PER_LEVEL:
        value = getattr(config, option)
        fits = not isinstance(value, tuple) or len(value) == levels
        _expect(config, fits, option, f"{levels} entries, one for each of block_out_channels")
    _check_embeddings(config)
    _check_widths(config)
    _check_depths(config)


def _expect(config, fits: bool, option: str, expected: str) -> None:
    if not fits:
        raise ValueError(_refusal(option, getattr(config, option), expected))


def _refusal(option: str, value, expected: str) -> str:
    return f"{option}={brief(value)} is not covered: expected {expected}"


def _check_alone(option: str, value, kind) -> None:
    """Type, then choice or range."""
    allowed, (low, high) = ALLOWED.get(option), RANGES.get(option, (None, None))
    fits = _is_a(value, kind)
    if fits and allowed:
        fits = all(item in allowed for item in _flat(value))
    elif fits and low is not None:
        fits = all(low <= item <= high for item in _flat(value) if item is not None)
    if not fits:
        words = f"one of {allowed}" if allowed else " or ".join(_words(kind))
        words = words if low is None else f"{words}, from {low} to {high}"
        raise ValueError(_refusal(option, value, words))


def _is_a(value, kind) -> bool:
    """Whether a value is of an annotation's type; a whole number is a number, True is none."""
    kinds = get_args(kind)
    if get_origin(kind) is tuple:
        fits = isinstance(value, tuple) and (kinds[-1] is Ellipsis or len(value) == len(kinds))
        return fits and all(_is_a(item, kinds[0]) for item in value)
    if kinds:
        return any(_is_a(value, one) for one in kinds)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _words(kind) -> list[str]:
    """An annotation in words."""
    names = {
        int: "a whole number", float: "a number", bool: "true or false", str: "a word",
        NoneType: "null",
    }  # fmt: skip
    if get_origin(kind) is tuple:
        return ["a list of such" if get_args(kind)[-1] is Ellipsis else "two such"]
    return [word for one in get_args(kind) or () for word in _words(one)] or [names[kind]]


def _flat(value) -> list:
    return [item for one in value for item in _flat(one)] if isinstance(value, tuple) else [value]


def _check_embeddings(config) -> None:
    """Stage 1: sinusoids come in pairs, and what is projected has its width."""
    widths = {"block_out_channels": config.block_out_channels[0]}
    added = config.addition_embed_type is not None
    projected = config.class_embed_type in ("projection", "simple_projection")
    for option, needed in (
        ("projection_class_embeddings_input_dim", added or projected),
        ("addition_time_embed_dim", added),
    ):
        fits = not needed or getattr(config, option) is not None
        _expect(config, fits, option, "a number, because another option asks for it")
    if added:
        waves = config.addition_time_embed_dim
        widths = widths | {"addition_time_embed_dim": waves}
        fits = config.projection_class_embeddings_input_dim > 6 * waves
        expected = f"more than the {6 * waves} numbers that picture sizes become"
        _expect(config, fits, "projection_class_embeddings_input_dim", expected)
    for option, width in widths.items():
        _expect(config, width % 2 == 0, option, f"an even width ({width}): a sine for each cosine")
        fits = config.freq_shift < width // 2
        _expect(config, fits, "freq_shift", f"less than half of {width} ({option})")
    for option in ("conv_in_kernel", "conv_out_kernel"):
        _expect(config, getattr(config, option) % 2 == 1, option, "an odd number")


def _check_widths(config) -> None:
    """Groups divide the channels of every norm, heads those of every attention."""
    widths = config.block_out_channels
    for level, channels in enumerate(widths):
        above, below = widths[max(level - 1, 0)], widths[min(level + 1, config.levels - 1)]
        normed = {channels, below + channels, channels + above}
        normed = normed | ({2 * channels} if config.at("layers_per_block", level) > 1 else set())
        for width in sorted(normed):
            fits = config.groups(width) > 0 and width % config.groups(width) == 0
            expected = f"a divisor of {width} channels (level {level})"
            _expect(config, fits, "norm_num_groups", expected)
        fits = channels % config.at("attention_head_dim", level) == 0
        fits = fits or not config.attending_sides(level)
        expected = f"a divisor of {channels} channels (level {level})"
        _expect(config, fits, "attention_head_dim", expected)
    same = len(set(_flat(config.cross_attention_dim))) == 1
    _expect(config, same, "cross_attention_dim", "one width: every level is given the same text")


def _check_depths(config) -> None:
    """Each transformer has its depth, and there are not too many blocks to be built."""
    levels = range(config.levels)
    sides = [(level, side) for level in levels for side in config.attending_sides(level)]
    resnets = sum(2 * config.at("layers_per_block", level) + 1 for level in levels)
    blocks = resnets + sum(sum(config.transformer_depths(level, side)) for level, side in sides)
    if blocks > MOST_BLOCKS:
        names = ("layers_per_block", "transformer_layers_per_block", PER_LEVEL[-1])
        asked = ", ".join(f"{name}={brief(getattr(config, name))}" for name in names)
        raise ValueError(
            f"{asked}: {blocks} blocks are not covered, expected at most {MOST_BLOCKS}"
        )

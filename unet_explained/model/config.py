"""UNetConfig: what a checkpoint's unet/config.json says, checked before anything is built.

Field names are the checkpoint's (diffusers' UNet2DConditionModel), so a config file is read as it
stands. One word is this project's own: a level is a resolution of the U, level 0 the full one.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from os.path import isfile
from pathlib import Path

from ..json_file import read_object
from ..words import brief, nearest
from .options import check, is_read_past


@dataclass(frozen=True)
class UNetConfig(Mapping):
    """The architecture of one UNet2DConditionModel; a per-level option is one value or a tuple.

    Options can be read as those of a dict, too: config["in_channels"], config.get, dict(config).
    """

    sample_size: int | tuple[int, int] | None = None  # of latents in training; any may be run
    in_channels: int = 4
    out_channels: int = 4
    center_input_sample: bool = False  # 2 * sample - 1 before anything else
    flip_sin_to_cos: bool = True  # [cos, sin] instead of [sin, cos]
    freq_shift: float = 0  # frequencies are divided by half the width minus this
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"  # None: no mid block at all
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    only_cross_attention: bool | tuple[bool, ...] = False  # attn1 looks at the prompt too
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # one entry a level
    layers_per_block: int | tuple[int, ...] = 2  # resnets in a down block; an up block has one more
    downsample_padding: int = 1  # 0 pads one row below and one column right instead
    mid_block_scale_factor: float = 1.0  # divides the output of the mid block's resnets
    dropout: float = 0.0  # in the resnets only, as in the reference
    act_fn: str = "silu"
    norm_num_groups: int | None = 32  # None: no norm and no activation before conv_out
    norm_eps: float = 1e-5
    cross_attention_dim: int | tuple[int, ...] = 1280  # width of the text embedding
    # BasicTransformerBlocks in each Transformer2DModel, and the same for up blocks, bottom first
    transformer_layers_per_block: int | tuple[int | tuple[int, ...], ...] = 1
    reverse_transformer_layers_per_block: tuple[int | tuple[int, ...], ...] | None = None
    attention_head_dim: int | tuple[int, ...] = 8  # the NUMBER of heads: a misnomer, but the name
    use_linear_projection: bool = False  # proj_in and proj_out: Linear instead of a 1x1 convolution
    class_embed_type: str | None = None  # None, timestep, identity, projection, simple_projection
    num_class_embeds: int | None = None  # rows of a learnt table, when class_embed_type is None
    addition_embed_type: str | None = None  # None or text_time (SDXL)
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None
    time_cond_proj_dim: int | None = None  # width of the guidance embedding (LCM)
    resnet_time_scale_shift: str = "default"  # default: time shifts; scale_shift: scales as well
    conv_in_kernel: int = 3
    conv_out_kernel: int = 3
    # Read and kept, but without effect on these block types, in the reference too:
    upcast_attention: bool = False
    resnet_skip_time_act: bool = False
    resnet_out_scale_factor: float = 1.0

    def __post_init__(self):
        for field in fields(self):
            object.__setattr__(self, field.name, _as_tuple(getattr(self, field.name)))
        check(self)

    def __getitem__(self, option: str):
        if option not in self.__dataclass_fields__:
            raise KeyError(_unknown(option))
        return getattr(self, option)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    def __getattr__(self, option: str):
        raise AttributeError(_unknown(option))

    @property
    def levels(self) -> int:
        return len(self.block_out_channels)

    @property
    def time_embed_dim(self) -> int:
        return 4 * self.block_out_channels[0]

    def at(self, option: str, level: int):
        """The value of a per-level option at one level; a single value holds for all."""
        value = getattr(self, option)
        return value[level] if isinstance(value, tuple) else value

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Of latents of this size, height and width on each level."""
        sizes = [(height, width)]
        for _ in range(self.levels - 1):
            height, width = ((side + self.downsample_padding) // 2 for side in (height, width))
            sizes.append((height, width))
        return sizes

    def attending_sides(self, level: int) -> list[str]:
        """Which of a level's blocks, down, mid and up, have attention."""
        bottom = self.levels - 1
        kinds = {
            "down": self.down_block_types[level],
            "mid": self.mid_block_type if level == bottom else None,
            "up": self.up_block_types[bottom - level],  # listed bottom first
        }
        return [side for side, kind in kinds.items() if kind and "CrossAttn" in kind]

    def groups(self, channels: int) -> int:
        """Groups of the norms inside the blocks, which exist whether conv_norm_out does or not."""
        return self.norm_num_groups or min(channels // 4, 32)

    def transformer_depths(self, level: int, side: str) -> tuple[int, ...]:
        """Depth of each Transformer2DModel of the down, mid or up block at a level."""
        option, at = "transformer_layers_per_block", level
        if side == "up" and self.reverse_transformer_layers_per_block is not None:
            option, at = "reverse_transformer_layers_per_block", self.levels - 1 - level
        depth = self.at(option, at)
        count = 1 if side == "mid" else self.at("layers_per_block", level) + (side == "up")
        if not isinstance(depth, tuple):
            return (depth,) * count
        if len(depth) < count:
            if side == "up":  # it has one more than the down block, for which the list is
                option = "reverse_transformer_layers_per_block"
            value = brief(getattr(self, option))
            raise ValueError(f"{option}={value}: level {level} ({side}) takes {count} depths")
        return depth[:count]  # the reference passes over what a list has too much, too

    def to_dict(self) -> dict:
        """As written into config.json; diffusers reads it too."""
        return {"_class_name": "UNet2DConditionModel"} | json.loads(json.dumps(asdict(self)))

    @classmethod
    def load(cls, what) -> "UNetConfig":
        """From a UNetConfig, a preset's name, a dict, or a config.json or the folder it lies in.

        Raises ValueError for an unknown name, for a file that holds no config (with its line) and
        for any option that is not covered, TypeError for anything else. What tells of training
        alone is read past.
        """
        if isinstance(what, cls):
            return what
        if isinstance(what, Mapping):
            return cls._from_dict(what)
        if not isinstance(what, str | Path):
            expected = "a preset's name, a path, a dict or a UNetConfig"
            raise TypeError(f"config: expected {expected}, got {brief(what)}")
        return cls._from_dict(_preset(str(what)) if what in PRESETS else _read(Path(what)))

    @classmethod
    def _from_dict(cls, options: Mapping) -> "UNetConfig":
        known = {field.name: field.default for field in fields(cls)}
        kind = options.get("_class_name", "UNet2DConditionModel")
        if kind not in ("UNet2DConditionModel", "FlaxUNet2DConditionModel"):
            kind = kind[:80] if isinstance(kind, str) else brief(kind)
            raise ValueError(f"expected the config of a UNet2DConditionModel, got that of a {kind}")
        for name, value in options.items():
            if name not in known and not is_read_past(str(name), value):
                option = f"{str(name)[:80]}={brief(value)}"
                raise ValueError(f"config option {option} is not covered by this package")
        given = {name: options[name] for name in known if name in options}
        # A null stands for the default wherever null has no meaning of its own.
        null_is_meant = ("mid_block_type", "norm_num_groups")
        return cls(**{n: v for n, v in given.items() if v is not None or n in null_is_meant})


def _unknown(option: str) -> str:
    return (
        f"UNetConfig has no option {option!r}. If a function of diffusers asked for it, give it "
        "ux.to_diffusers(unet), which shares its tensors"
    )


def _as_tuple(value):
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list | tuple) else value


def _preset(name: str) -> dict:
    options = dict(PRESETS[name])
    if "file" in options:
        return _read(Path(__file__).parent / options["file"])
    return (_preset(options.pop("extends")) if "extends" in options else {}) | options


def _read(path: Path) -> dict:
    for file in (path, path / "config.json", path / "unet" / "config.json"):
        if isfile(file):  # also of a name that is too long for one
            return read_object(file)
    name, near = str(path)[:400], nearest(str(path), PRESETS) or sorted(PRESETS)
    raise ValueError(f"{name!r} is no preset ({', '.join(near)}), config.json or its folder")


# Published checkpoints as differences from the defaults above: what their config files say.
PRESETS = json.loads((Path(__file__).parent / "presets.json").read_text())

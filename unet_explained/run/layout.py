"""The layout of a UNet, which tells families apart: by its config, or by its tensors' shapes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from ..model import UNetConfig
from .weights import Shapes

MOST = 128  # of anything that is counted here


@dataclass(frozen=True)
class Layout:
    """depths: transformer blocks in each attention of the down blocks, level by level."""

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    depths: tuple[tuple[int, ...], ...]
    mid_depth: int
    cross_attention_dim: int
    use_linear_projection: bool

    def __str__(self) -> str:
        return ", ".join(f"{name}={str(value)[:200]}" for name, value in asdict(self).items())


def layout_of(config: UNetConfig) -> Layout:
    """By a config."""
    layers, bottom = config.at("layers_per_block", 0), config.levels - 1
    attends = [config.attending_sides(level) for level in range(config.levels)]
    depths = [
        config.transformer_depths(level, "down") if "down" in sides else (0,) * layers
        for level, sides in enumerate(attends)
    ]
    mid = config.transformer_depths(bottom, "mid") if "mid" in attends[bottom] else (0,)
    width = config.at("cross_attention_dim", 0)
    return Layout(
        config.block_out_channels, layers, tuple(depths), mid[0], width,
        config.use_linear_projection,
    )  # fmt: skip


def layout_in(shapes: Shapes, compvis: bool) -> Layout:
    """By a UNet's own tensors. compvis: whether their names are CompVis', and not diffusers'."""
    levels = _places(shapes, compvis)
    mid = "middle_block.1." if compvis else "mid_block.attentions.0."
    attentions = [attention for level in levels for _, attention in level] + [mid]
    depth = {place: _depth(shapes, place) for place in attentions}
    first = next((place for place in attentions if depth[place]), mid)
    return Layout(
        tuple(size(shapes, level[0][0], 0) for level in levels if level),
        len(levels[0]) if levels else 0,
        tuple(tuple(depth[attention] for _, attention in level) for level in levels),
        depth[mid],
        size(shapes, f"{first}transformer_blocks.0.attn2.to_k.weight", 1),
        len(shapes.get(f"{first}proj_in.weight", ())) == 2,
    )


def size(shapes: Shapes, name: str, axis: int) -> int:
    """0 where there is no such tensor or axis."""
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else 0


def _places(shapes: Shapes, compvis: bool) -> list[list[tuple[str, str]]]:
    """By level and layer, going down: a resnet's first convolution, and its attention's prefix."""

    def place(level: int, layer: int) -> tuple[str, str]:
        if compvis:  # conv_in is number 0, and each level but the last ends with a downsampler
            number = 1 + level * (layers + 1) + layer
            return f"input_blocks.{number}.0.in_layers.2.weight", f"input_blocks.{number}.1."
        block = f"down_blocks.{level}."
        return f"{block}resnets.{layer}.conv1.weight", f"{block}attentions.{layer}."

    if compvis:
        layers = _length(lambda n: f"input_blocks.{n + 1}.0.op.weight" not in shapes)
    else:
        layers = _length(lambda n: place(0, n)[0] in shapes)
    levels = _length(lambda n: place(n, 0)[0] in shapes)
    return [[place(level, layer) for layer in range(layers)] for level in range(levels)]


def _depth(shapes: Shapes, attention: str) -> int:
    return _length(lambda n: f"{attention}transformer_blocks.{n}.norm1.weight" in shapes)


def _length(there: Callable[[int], bool]) -> int:
    """How many in a row, from the first."""
    return next((n for n in range(MOST) if not there(n)), MOST)

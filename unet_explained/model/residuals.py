"""What other networks add: a ControlNet to skips and mid, a T2I-Adapter inside the down blocks."""

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from .blocks import BLOCKS
from .config import UNetConfig
from .expect import Axes, expect, kind_of

BROADCAST: Any = dict(least=0, ones=4)


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


def check_residuals(config: UNetConfig, sample: Tensor, down: Any, mid: Any, adapter: Any) -> None:
    """ControlNet's and T2I-Adapter's residuals have their places, and fit them."""
    if (down is None) != (mid is None):
        raise ValueError(
            "ControlNet: pass both down_block_additional_residuals and "
            "mid_block_additional_residual, or neither (a T2I-Adapter's are "
            "down_intrablock_additional_residuals)"
        )
    skips, inside, bottom = _places(config, sample)
    if down is not None:
        name = "down_block_additional_residuals"
        _check_count(name, down, [len(skips)])
        for number, (residual, axes) in enumerate(zip(down, skips)):
            expect(f"{name}[{number}]", residual, axes, sample, "added", **BROADCAST)
        expect("mid_block_additional_residual", mid, bottom, sample, "added", **BROADCAST)
    if adapter is not None:
        name, levels = "down_intrablock_additional_residuals", config.levels
        _check_count(name, adapter, [levels, levels + 1] if config.mid_block_type else [levels])
        for number, (residual, axes) in enumerate(zip(adapter, [*inside, bottom])):
            # It may leave a block out. To mid the reference adds only what has its shape.
            wide = BROADCAST if number < levels else {}
            if residual is not None:
                expect(f"{name}[{number}]", residual, axes, sample, "added", **wide)


def _check_count(name: str, residuals: Any, counts: list[int]) -> None:
    if not isinstance(residuals, (tuple, list)):
        raise TypeError(f"{name}: expected a list of tensors, got {kind_of(residuals)}")
    if len(residuals) not in counts:
        expected = " or ".join(map(str, counts))
        raise ValueError(f"{name}: expected {expected}, got {len(residuals)}")


def _places(config: UNetConfig, sample: Tensor) -> tuple[list[Axes], list[Axes], Axes]:
    """The axes of each skip, of what an adapter adds to in each down block, and of mid."""
    batch, widths, sizes = len(sample), config.block_out_channels, config.sizes(*sample.shape[2:])
    skips: list[Axes] = [(batch, widths[0], *sizes[0])]
    inside: list[Axes] = []
    for level, (channels, size, smaller) in enumerate(zip(widths, sizes, [*sizes[1:], None])):
        skips += [(batch, channels, *size)] * config.at("layers_per_block", level)
        if smaller:
            skips.append((batch, channels, *smaller))
        block: Any = BLOCKS[config.down_block_types[level]]
        where = size if block.adapter_before_downsampling else smaller or size
        inside.append((batch, channels, *where))
    return skips, inside, (batch, widths[-1], *sizes[-1])

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
        block: Any = BLOCKS[config.at("down_block_types", level)]
        where = size if block.adapter_before_downsampling else smaller or size
        inside.append((batch, channels, *where))
    return skips, inside, (batch, widths[-1], *sizes[-1])

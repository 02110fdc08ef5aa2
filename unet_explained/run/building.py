"""A UNet from a config and a state dict, compared by name and shape before it takes a tensor."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..model import UNet2DConditionModel, UNetConfig
from .weights import Shapes, compare

State = dict[str, Tensor]


def empty_unet(config: UNetConfig) -> UNet2DConditionModel:
    """On the meta device: nothing is allocated or initialised that weights will replace."""
    with torch.device("meta"):
        return UNet2DConditionModel(config)


def shapes_of(state: State) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def filled(
    file: Path, config: UNetConfig, state: State, by: str = "config.json"
) -> UNet2DConditionModel:
    """The UNet with these tensors; ValueError if they do not fit. by: what says that they should.

    file: for the message.
    """
    unet = empty_unet(config)
    compare(file, shapes_of(state), shapes_of(unet.state_dict()), by)
    expect_floating(file, state)
    unet.load_state_dict(state, assign=True)
    return unet.requires_grad_(True)


def expect_floating(file: Path, state: State) -> None:
    """Weights of whole numbers are quantized, with scales that lie elsewhere."""
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{file}: {name} is {tensor.dtype}, expected floating point")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """transformers' own: a local file loads in less time than a bar takes to read."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()

"""The network, to be read leaf to root: config, embeddings, resnet, attention, blocks, unet."""

from .attention import Attend, Attention, attention_weights
from .config import PRESETS, UNetConfig
from .unet import UNet2DConditionModel, UNet2DConditionOutput

__all__ = [
    "PRESETS",
    "Attend",
    "Attention",
    "UNet2DConditionModel",
    "UNet2DConditionOutput",
    "UNetConfig",
    "attention_weights",
]

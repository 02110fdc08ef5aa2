"""The network: first unet, whose forward is the map, then leaf to root to the lines it stands for:
config, embeddings, resnet, attention, blocks. What refuses stands apart: options checks a config;
inputs, expect and residuals what a forward is given; lacking has what diffusers' class has besides.

Arguments that a user passes or a hook sees have the reference's names (hidden_states, temb,
encoder_hidden_states); inside a forward the tensor that runs through it is x.
"""

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

"""Tiny random pipelines of three families, as diffusers has them and as a single file.

The tables of families are narrowed: all other code is as it ships.
"""

from functools import cache

import compvis
import diffusers
import pipelines
import torch
import transformers
from safetensors.torch import save_file

from unet_explained.model import UNetConfig
from unet_explained.run.single import CLIP

BLOCKS = {"layers_per_block": 1, "block_out_channels": [32] * 4, "sample_size": 64}
# Groups of two numbers, at the lowest level, would make noise of the last digits.
UNET = {"block_out_channels": [32, 64, 64, 64], "norm_num_groups": 8}
SMALL = {
    "sd1": ("sd15", UNET | {"cross_attention_dim": 32}),
    "sd2": (
        "sd21",
        UNET | {"cross_attention_dim": 48, "attention_head_dim": [2, 4, 4, 8]},
    ),
    "sdxl": (
        "sdxl",
        UNET
        | {
            "block_out_channels": [32, 64, 64], "cross_attention_dim": 32 + 40,
            "attention_head_dim": [2, 4, 8], "transformer_layers_per_block": [1, 1, 2],
            "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 16,
        },
    ),
}  # fmt: skip
WIDTHS = {"clip-l": 32, "open-clip-h": 48, "open-clip-g": 40}
SCHEDULERS = {
    "sd1": ("PNDMScheduler", {"skip_prk_steps": True}),
    "sd2": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "sdxl": ("EulerDiscreteScheduler", {"timestep_spacing": "leading"}),
}


def text_config(name: str, **config) -> dict:
    width = WIDTHS[name]
    few = dict(hidden_size=width, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    return config | few | {"projection_dim": 16}


@torch.no_grad()
def randomised(model):
    """Default weights hide a scale or a bias that is taken for another."""
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model.requires_grad_(False).eval()


@cache
def parts(family: str) -> dict:
    """What a pipeline of diffusers' is made of, all of it random."""
    torch.manual_seed(0)
    preset, config = SMALL[family]
    whole = UNetConfig.load(preset).to_dict() | config | {"sample_size": 8}
    kind, options = SCHEDULERS[family]
    prediction = "v_prediction" if family == "sd2" else "epsilon"
    vae = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        scaling_factor=0.13025 if family == "sdxl" else 0.18215, **BLOCKS,
    )  # fmt: skip
    made = {
        "unet": randomised(diffusers.UNet2DConditionModel.from_config(whole)),
        "vae": randomised(vae),
        "scheduler": pipelines.scheduler(
            kind, prediction_type=prediction, steps_offset=1, **options
        ),
    }
    encoders = {"sd1": ["clip-l"], "sd2": ["open-clip-h"], "sdxl": ["clip-l", "open-clip-g"]}
    for number, name in enumerate(encoders[family]):
        act = "quick_gelu" if name == "clip-l" else "gelu"
        text = transformers.CLIPTextConfig(**text_config(name, hidden_act=act))
        cls = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)[number]
        after = "_2" if number else ""
        made[f"text_encoder{after}"] = cls(text).eval()
        made[f"tokenizer{after}"] = tokenizer("<|endoftext|>" if name == "clip-l" else "!")
    return made


def tokenizer(pad: str):
    return transformers.CLIPTokenizer.from_pretrained(CLIP, pad_token=pad, model_max_length=77)


def single_state(family: str) -> dict[str, torch.Tensor]:
    """Its tensors, by the names of a single file."""
    made = parts(family)
    layers = made["unet"].config.layers_per_block
    state = compvis.unet(made["unet"].state_dict(), layers)
    state |= compvis.vae(made["vae"].state_dict(), 4)
    first = made["text_encoder"].state_dict()
    if family == "sd1":
        state |= compvis.clip(first, "cond_stage_model.transformer.")
    elif family == "sd2":
        state |= compvis.open_clip(first, "cond_stage_model.model.")
    else:
        state |= compvis.clip(first, "conditioner.embedders.0.transformer.")
        second = made["text_encoder_2"].state_dict()
        state |= compvis.open_clip(second, "conditioner.embedders.1.model.")
    state |= {"alphas_cumprod": torch.ones(1000), "model_ema.num_updates": torch.tensor(7)}
    return {name: tensor.contiguous().clone() for name, tensor in state.items()}


def write(family: str, file, **changes):
    save_file(single_state(family) | changes, file)
    return file


def theirs(family: str):
    kind = diffusers.StableDiffusionPipeline
    extra = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    if family == "sdxl":
        kind, extra = diffusers.StableDiffusionXLPipeline, {}
    pipe = kind(**parts(family), **extra)
    pipe.set_progress_bar_config(disable=True)
    return pipe

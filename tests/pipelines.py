"""Tiny random pipelines of diffusers' own, with sharp attention: `pipe, options = build("sd")`.

The options are what a call needs beyond its prompts: two or three forwards, no decoding. Text
encoders, VAEs and tokenizers are shared; every UNet is new, so that a test may change it.
"""

import copy
import inspect
from functools import cache

import diffusers
import torch
import transformers

from training.tokenizer import build_tokenizer

diffusers.utils.logging.set_verbosity_error()  # of what is deprecated, and of no safety checker

RED, FISH, FROG = "a red circle left of a blue square", "a green fish", "a small green frog"
WIDTHS = (24, 40)  # of SDXL's two text encoders; the first is everybody's
SIZE = 64  # of a picture; its latents are 8 x 8

UNET = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": WIDTHS[0],
    "attention_head_dim": [2, 4],  # numbers of heads; a list, for SAG reads its last
}
XL = {
    "cross_attention_dim": sum(WIDTHS),
    "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 16,
}
REFINER = XL | {
    "cross_attention_dim": WIDTHS[1],
    "projection_class_embeddings_input_dim": 5 * 8 + 16,
}
UPSCALER = {
    "in_channels": 7,
    "num_class_embeds": 1000,
    "use_linear_projection": True,
    "only_cross_attention": (True, False),
}


def unet(seed: int = 0, **config) -> diffusers.UNet2DConditionModel:
    """All its parameters random; its queries and keys large, so that a pixel prefers a word."""
    torch.manual_seed(seed)
    return sharpened(diffusers.UNet2DConditionModel(**UNET | config))


@torch.no_grad()
def sharpened(model: torch.nn.Module) -> torch.nn.Module:
    """Default weights look everywhere alike, and hide a head or a row taken for another."""
    for name, parameter in model.named_parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
        if any(part in name for part in ("to_q", "to_k", "add_k")):
            parameter.mul_(6)
    return model.requires_grad_(False).eval()


@cache
def tokenizer():
    return build_tokenizer()


@cache
def text_encoder(number: int = 0):
    """The second has a projection, as SDXL's."""
    torch.manual_seed(number)
    words = tokenizer()
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTHS[number], intermediate_size=48,
        num_hidden_layers=3, num_attention_heads=2, projection_dim=16, hidden_act="gelu",
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip
    kinds = transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection
    return kinds[number](config).eval()


@cache
def vae():
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4, layers_per_block=1, norm_num_groups=2, sample_size=SIZE,
    ).eval()  # fmt: skip


@cache
def upscaling_vae():
    model = copy.deepcopy(vae())
    model.register_to_config(scaling_factor=0.08333)
    return model


def motion():
    torch.manual_seed(8)
    return diffusers.MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_norm_num_groups=8,
        motion_num_attention_heads=2,
    )  # fmt: skip


def scheduler(kind: str = "DDIMScheduler", **config):
    return getattr(diffusers, kind)(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **config
    )


def ddim():
    return scheduler(clip_sample=False, steps_offset=1)


def picture(seed: int = 0, size: int = SIZE) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def controlnet(seed: int = 5, **config):
    """Its attentions have the names of the UNet's, and other weights."""
    torch.manual_seed(seed)
    common = {key: UNET[key] for key in UNET if key not in ("sample_size", "up_block_types")}
    model = diffusers.ControlNetModel(
        conditioning_embedding_out_channels=(4, 4, 4, 4), **common | config
    )
    return sharpened(model)


def t2i_adapter():
    torch.manual_seed(6)
    return diffusers.T2IAdapter(channels=[16, 32], num_res_blocks=1, downscale_factor=8).eval()


def build(kind: str):
    """A pipeline of a kind below and the options of its call."""
    make, *given = KINDS[kind]
    pipe, options = make(*given)
    pipe.set_progress_bar_config(disable=True)
    return pipe, {"num_inference_steps": 2, "output_type": "latent"} | options


def run(pipe, prompt=RED, seed: int = 0, **options):
    """A call whose noise is always the same; returns the latents."""
    made = pipe(prompt=prompt, generator=torch.Generator().manual_seed(seed), **options)
    return made.frames if hasattr(made, "frames") else made.images


def _sd(name: str, config: dict | None = None, parts=None, options=None):
    return _pipeline(name, config, parts, options, text_encoder=text_encoder, tokenizer=tokenizer)


def _xl(name: str, config: dict | None = None, parts=None, options=None):
    both = {
        "text_encoder": text_encoder, "text_encoder_2": lambda: text_encoder(1),
        "tokenizer": tokenizer, "tokenizer_2": tokenizer,
    }  # fmt: skip
    return _pipeline(name, XL | (config or {}), parts, options, **both)


def _pipeline(name, config, parts, options, **texts):
    kind = getattr(diffusers, name)
    common = texts | {"vae": vae, "unet": lambda: unet(**config or {}), "scheduler": ddim}
    for absent in ("safety_checker", "feature_extractor"):
        if absent in inspect.signature(kind).parameters:
            common[absent] = None
    return kind(**_made(common | (parts or {}))), _made(options or {})


def _made(values: dict) -> dict:
    """Parts and pictures are made when a pipeline is, not when this file is imported."""
    return {key: value() if callable(value) else value for key, value in values.items()}


IMAGE = {"image": picture}
HINT = {"image": lambda: picture(1)}
FEW = IMAGE | {"strength": 0.5, "num_inference_steps": 4}
HOLE = {"mask_image": lambda: (picture(2)[:, :1] > 0.5).float(), "height": SIZE, "width": SIZE}
CONTROL = {"controlnet": controlnet}
CONTROLS = {"controlnet": lambda: [controlnet(5), controlnet(7)]}
ADAPTER = {"adapter": t2i_adapter}

KINDS = {
    "sd": (_sd, "StableDiffusionPipeline"),
    "img2img": (_sd, "StableDiffusionImg2ImgPipeline", {}, {}, FEW),
    "inpaint": (_sd, "StableDiffusionInpaintPipeline", {"in_channels": 9}, {}, FEW | HOLE),
    "depth": (
        _sd,
        "StableDiffusionDepth2ImgPipeline",
        {"in_channels": 5},
        {"depth_estimator": None},
        FEW | {"depth_map": lambda: picture()[:, 0]},
    ),
    "pix2pix": (_sd, "StableDiffusionInstructPix2PixPipeline", {"in_channels": 8}, {}, IMAGE),
    "upscale": (
        _sd,
        "StableDiffusionUpscalePipeline",
        UPSCALER,
        {"low_res_scheduler": lambda: scheduler("DDPMScheduler"), "vae": upscaling_vae},
        {"image": lambda: picture(size=8)},
    ),
    "controlnet": (_sd, "StableDiffusionControlNetPipeline", {}, CONTROL, HINT),
    "controlnets": (
        _sd,
        "StableDiffusionControlNetPipeline",
        {},
        CONTROLS,
        {"image": lambda: [picture(1), picture(2)]},
    ),
    "guess": (_sd, "StableDiffusionControlNetPipeline", {}, CONTROL, HINT | {"guess_mode": True}),
    "t2i": (_sd, "StableDiffusionAdapterPipeline", {}, ADAPTER, HINT),
    "lcm": (
        _sd,
        "LatentConsistencyModelPipeline",
        {"time_cond_proj_dim": 8},
        {"scheduler": lambda: scheduler("LCMScheduler")},
    ),
    "pag": (_sd, "StableDiffusionPAGPipeline"),
    "sag": (_sd, "StableDiffusionSAGPipeline"),
    "panorama": (  # two views of 64 x 8 latents
        _sd,
        "StableDiffusionPanoramaPipeline",
        {},
        {},
        {"height": SIZE, "width": 72 * 8, "view_batch_size": 2},
    ),
    "excite": (
        _sd,
        "StableDiffusionAttendAndExcitePipeline",
        {},
        {},
        {"token_indices": [3, 8], "attn_res": (4, 4), "thresholds": {0: 0.9}},
    ),
    "animate": (_sd, "AnimateDiffPipeline", {}, {"motion_adapter": motion}, {"num_frames": 2}),
    "xl": (_xl, "StableDiffusionXLPipeline"),
    "xl_t2i": (_xl, "StableDiffusionXLAdapterPipeline", {}, ADAPTER, HINT),
    "xl_controlnet": (
        _xl,
        "StableDiffusionXLControlNetPipeline",
        {},
        {"controlnet": lambda: controlnet(**XL)},
        HINT,
    ),
    "xl_pag": (_xl, "StableDiffusionXLPAGPipeline"),
    "refiner": (
        _xl,
        "StableDiffusionXLImg2ImgPipeline",
        REFINER,
        {"text_encoder": None, "tokenizer": None, "requires_aesthetics_score": True},
        FEW,
    ),
}

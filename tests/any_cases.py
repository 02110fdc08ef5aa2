"""Every way in which diffusers' UNet attends: how to set a tiny one up, and what to give it."""

import contextlib
from typing import Any, NamedTuple

import pytest
import torch
from diffusers.image_processor import IPAdapterMaskProcessor
from diffusers.models import attention_processor
from pipelines import UPSCALER, WIDTHS, XL, unet

ADDED = {
    "down_block_types": ("SimpleCrossAttnDownBlock2D", "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("UpBlock2D", "SimpleCrossAttnUpBlock2D"),
    "attention_head_dim": 8,
}
IMAGE_WIDTH, TOKENS = 12, 9


class Case(NamedTuple):
    """prepare(unet) changes it and may return more arguments of its call; around: its `with`."""

    prepare: Any = lambda model: None
    config: dict | None = None
    dtype: torch.dtype = torch.float32
    around: Any = contextlib.nullcontext
    silent: int = 0  # how many adapters, from the first on, are at scale 0 and look at nothing

    def build(self):
        """The UNet and its arguments, the same each time."""
        model = unet(**self.config or {})
        more = self.prepare(model) or {}
        return model.to(self.dtype), inputs(self.config, self.dtype) | more


def inputs(config: dict | None = None, dtype=torch.float32, batch: int = 2) -> dict:
    """Latents that are not square, and a few tokens."""
    config, generator = config or {}, torch.Generator().manual_seed(0)
    channels, width = config.get("in_channels", 4), config.get("cross_attention_dim", WIDTHS[0])
    given: dict[str, Any] = {
        "sample": torch.randn(batch, channels, 8, 12, generator=generator).to(dtype),
        "timestep": torch.tensor(7),
        "encoder_hidden_states": (0.4 * torch.randn(batch, TOKENS, width, generator=generator)).to(
            dtype
        ),
    }
    if "num_class_embeds" in config:
        given["class_labels"] = torch.tensor([20] * batch)
    if "addition_embed_type" in config:
        added = {"text_embeds": torch.ones(batch, 16), "time_ids": torch.ones(batch, 6)}
        given["added_cond_kwargs"] = added
    return given


def called(model, given: dict) -> torch.Tensor:
    with torch.no_grad():
        return model(**given).sample


def processors(name: str):
    """Sets a class of processors."""
    kind = getattr(attention_processor, name)
    return lambda model: model.set_attn_processor(kind())


def sliced(size):
    return lambda model: model.set_attention_slice(size)


def fused(model) -> None:
    model.fuse_qkv_projections()


def unfused(model) -> None:
    model.fuse_qkv_projections()
    model.unfuse_qkv_projections()


def lora(model, seed: int = 3) -> None:
    peft = pytest.importorskip("peft", reason="pip install peft")
    torch.manual_seed(seed)
    model.add_adapter(
        peft.LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    )


def lora_off(model) -> None:
    lora(model)
    model.disable_adapters()


def lora_fused(model) -> None:
    lora(model)
    model.fuse_lora()


def ip_state(model, seed: int) -> dict:
    """The weights of an IP-Adapter with four tokens an image, random and sharp."""
    generator, width = torch.Generator().manual_seed(seed), model.config.cross_attention_dim

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    weights = {}
    layers = [name for name in model.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(layers):
        channels = model.get_submodule(name.removesuffix(".processor")).to_v.out_features
        for key in ("to_k_ip", "to_v_ip"):
            weights[f"{2 * number + 1}.{key}.weight"] = random(channels, width)
    shapes = {"proj.weight": (4 * width, IMAGE_WIDTH), "proj.bias": (4 * width,)}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    projection = {key: random(*shape) for key, shape in shapes.items()}
    return {"image_proj": projection, "ip_adapter": weights}


def ip(*scales, images: int = 1, masks: bool = False, kind: str | None = None):
    """As many adapters as scales, each given so many images."""

    def prepare(model) -> dict:
        model._load_ip_adapter_weights([ip_state(model, seed) for seed in range(len(scales))])
        for processor in model.attn_processors.values():
            if hasattr(processor, "scale"):
                processor.scale = list(scales)
        generator = torch.Generator().manual_seed(4)
        embeds = [torch.randn(2, images, IMAGE_WIDTH, generator=generator) for _ in scales]
        given: dict[str, Any] = {"added_cond_kwargs": {"image_embeds": embeds}}
        if masks:
            halves = torch.zeros(images, 1, 64, 96)
            for image in range(images):
                halves[image, :, :, 48 * image : 48 * image + 48] = 1
            regions = IPAdapterMaskProcessor().preprocess(halves, height=64, width=96)
            regions = regions.reshape(1, images, 64, 96)
            given["cross_attention_kwargs"] = {"ip_adapter_masks": [regions] * len(scales)}
        return given

    return prepare


def eager_ip(model) -> dict:
    """The same adapter in the processor that torch without a fused kernel would get."""
    given = ip(0.6)(model)
    old = model.attn_processors
    new = {}
    for name, processor in old.items():
        new[name] = attention_processor.AttnProcessor()
        if hasattr(processor, "to_k_ip"):
            new[name] = attention_processor.IPAdapterAttnProcessor(
                processor.hidden_size, processor.cross_attention_dim, (4,), processor.scale
            )
            new[name].load_state_dict(processor.state_dict())
    model.set_attn_processor(new)
    return given


def bool_mask(model) -> dict:
    keep = torch.ones(2, TOKENS, dtype=torch.bool)
    keep[0, 5:], keep[1, 2] = False, False
    return {"encoder_attention_mask": keep}


def float_mask(model) -> dict:
    """One is kept; a ten-thousandth less weighs a factor of e less."""
    graded = 1 - 1e-4 * torch.arange(2.0 * TOKENS).view(2, TOKENS)
    return {"encoder_attention_mask": graded}


def attentions(model):
    return (part for part in model.modules() if isinstance(part, attention_processor.Attention))


def another_scale(model) -> None:
    """Which the eager processors go by, and the fused kernel does not."""
    for attention in attentions(model):
        attention.scale *= 0.5


def normed(model) -> None:
    """Which the fused processors do, and the eager ones do not."""
    for attention in attentions(model):
        width = attention.inner_dim // attention.heads
        attention.norm_q, attention.norm_k = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)


def eager(change):
    return lambda model: processors("AttnProcessor")(model) or change(model)


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


CASES = {
    "sdpa": Case(),
    "eager": Case(processors("AttnProcessor")),
    "slices of 1": Case(sliced(1)),
    "slices of max": Case(sliced("max")),
    "fused projections": Case(fused),
    "unfused again": Case(unfused),
    "added kv": Case(config=ADDED),
    "added kv, eager": Case(processors("AttnAddedKVProcessor"), ADDED),
    "added kv, text alone": Case(config=ADDED | {"only_cross_attention": True}),
    "ip-adapter": Case(ip(1.0)),
    "ip-adapter at 0.3, two images": Case(ip(0.3, images=2)),
    "ip-adapter at 0": Case(ip(0)),
    "ip-adapter, eager": Case(eager_ip),
    "two ip-adapters": Case(ip(0.3, 0.8)),
    "two ip-adapters, the first at 0": Case(ip(0, 0.8), silent=1),
    "ip-adapter, masks": Case(ip(0.7, images=2, masks=True)),
    "two ip-adapters, masks": Case(ip(0.7, 0.4, images=2, masks=True)),
    "lora": Case(lora),
    "lora off": Case(lora_off),
    "lora fused": Case(lora_fused),
    "bool mask": Case(bool_mask),
    "float mask": Case(float_mask),
    "mask, eager": Case(eager(float_mask)),
    "another scale": Case(another_scale),
    "another scale, eager": Case(eager(another_scale)),
    "norms of q and k": Case(normed),
    "norms of q and k, eager": Case(eager(normed)),
    "upcast": Case(
        processors("AttnProcessor"), {"upcast_attention": True}, torch.bfloat16
    ),
    "only cross-attention": Case(config=UPSCALER),
    "linear projections, two blocks": Case(config=XL),
    "bf16": Case(dtype=torch.bfloat16),
    "autocast": Case(around=autocast),
}  # fmt: skip

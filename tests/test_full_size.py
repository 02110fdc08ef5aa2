"""A full-size Stable Diffusion 1.5, with random weights, made and saved by diffusers."""

import gc

import diffusers
import pytest
import torch
import transformers

import unet_explained as ux
from training.tokenizer import build_tokenizer

PROMPT = "a red circle left of a blue square"
TEXT = {
    "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
    "num_hidden_layers": 12, "projection_dim": 768, "hidden_act": "quick_gelu",
}  # fmt: skip
VAE = {
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 512,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
STEPS = 1  # a forward takes long on two cores; small models are compared over more steps

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    """The folder, in half precision as the fp16 variant is, and the latents of its own pipeline."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    text = transformers.CLIPTextConfig(vocab_size=49408, **ids, **TEXT)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(**VAE),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel.from_config(ux.UNetConfig.load("sd15").to_dict()),
        scheduler=diffusers.DDIMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("sd15") / "pipeline"
    pipeline.to(torch.float16).save_pretrained(folder, variant="fp16")
    pipeline.to(torch.float32).set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    latents = pipeline(
        PROMPT, num_inference_steps=STEPS, generator=generator, output_type="latent"
    ).images
    del pipeline
    gc.collect()
    return folder, latents


def test_a_full_size_run_equals_that_of_diffusers_and_is_recorded(sd15):
    folder, expected = sd15
    pipe = ux.load(folder, device="cpu")
    assert sum(p.numel() for p in pipe.unet.parameters()) == 859_520_964
    with ux.record(pipe.unet) as rec:
        run = pipe(PROMPT, steps=STEPS)
    assert ((run.latents - expected).abs().max() / expected.abs().max()) < 1e-5
    assert len(rec.layers) == 16
    assert rec.attention("circle").shape == (64, 64)
    assert rec.attention("circle", layer="mid_block*").shape == (8, 8)
    assert run.image.size == (512, 512)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_same_folder_on_cuda_in_half_precision(sd15, dtype):
    folder, expected = sd15
    pipe = ux.load(folder, device="cuda", dtype=dtype)
    with ux.record(pipe.unet) as rec:
        run = pipe(PROMPT, steps=STEPS)
    distance = (run.latents.cpu() - expected).norm() / expected.norm()
    assert distance < 0.05
    assert rec.attention("square").isfinite().all()

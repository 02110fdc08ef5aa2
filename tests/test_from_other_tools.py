"""Every line of docs/from_other_tools.md runs, on a pipeline of four levels."""

import re
from pathlib import Path

import diffusers
import pytest
import torch
import torch.nn.functional as F
from pipelines import RED, ddim, run, sharpened, text_encoder, tokenizer, vae

import unet_explained as ux
from unet_explained.show.export import export_heatmaps

TEXT = (Path(__file__).parents[1] / "docs/from_other_tools.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def pipe():
    """Small, with the names of Stable Diffusion's blocks."""
    config = dict(
        sample_size=16, block_out_channels=(16, 16, 32, 32), layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=24, attention_head_dim=2,
    )  # fmt: skip
    made = diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=text_encoder(), tokenizer=tokenizer(), scheduler=ddim(),
        unet=sharpened(diffusers.UNet2DConditionModel(**config)), safety_checker=None,
        feature_extractor=None,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def test_each_tool_has_its_lines():
    assert len(SECTIONS) == TEXT.count("\n## ") == TEXT.count("```python") == 5


@pytest.mark.parametrize(
    "lines", [code for _, code in SECTIONS], ids=[name for name, _ in SECTIONS]
)
def test_every_line_runs(lines, pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = dict(ux=ux, F=F, pipe=pipe, export_heatmaps=export_heatmaps)
    exec(lines, names)
    if "rec" in names:
        assert names["rec"].unknown == []
    if "large" in names:
        assert names["large"].shape == (512, 512)


def test_keys_are_changed_as_the_last_sentence_says(pipe):
    expected = run(pipe, RED, num_inference_steps=1, output_type="latent")
    pipe.unet = ux.from_diffusers(pipe.unet)
    torch.testing.assert_close(
        run(pipe, RED, num_inference_steps=1, output_type="latent"), expected, atol=1e-4, rtol=0
    )
    with ux.intervene(pipe.unet, "*attn2.attend", lambda k: 0 * k, on="k"):
        changed = run(pipe, RED, num_inference_steps=1, output_type="latent")
    assert (changed - expected).abs().max() > 0.01

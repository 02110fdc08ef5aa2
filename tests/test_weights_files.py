"""A file of weights where a model is asked for: its family by its header; no tensor is read."""

import pickle
import re
import time
import zipfile
from functools import cache

import compvis
import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file

import unet_explained as ux
from unet_explained.__main__ import main
from unet_explained.model import UNetConfig
from unet_explained.run.building import empty_unet
from unet_explained.run.family import TABLES, family_of

from_pretrained = ux.UNet2DConditionModel.from_pretrained
LAYERS = 2  # of every level, in all families
pytestmark = pytest.mark.usefixtures("no_network")


@cache
def tensors(preset: str) -> dict:
    """Of a UNet by diffusers' names, on the meta device."""
    return empty_unet(UNetConfig.load(preset)).state_dict()


def full(preset: str, file, single: bool = True, others=(), **metadata):
    """A file of a full-size UNet. others: names that stand for the other parts of a pipeline."""
    state = tensors(preset)
    state = compvis.unet(state, LAYERS) if single else state
    return compvis.sparse(file, state | dict.fromkeys(others, torch.zeros(1)), **metadata)


FAMILIES = {
    "sd15": "Stable Diffusion 1.x",
    "inpaint": "Stable Diffusion 1.x, inpainting",
    "ip2p": "Stable Diffusion 1.x, InstructPix2Pix",
    "lcm": "Stable Diffusion 1.x, LCM",
    "sd21": "Stable Diffusion 2.x",
    "sd2-depth": "Stable Diffusion 2.x, with depth",
    "unclip-h": "Stable Diffusion 2.x, unCLIP",
    "sdxl": "Stable Diffusion XL",
    "ssd1b": "SSD-1B",
    "vega": "Segmind Vega",
    "refiner": "Stable Diffusion XL's refiner",
    "x4": "Stable Diffusion's x4 upscaler",
}


@pytest.mark.parametrize("preset", FAMILIES)
def test_a_file_of_a_known_family_has_that_familys_config(preset, tmp_path):
    for single in (True, False):
        found = family_of(full(preset, tmp_path / "model.safetensors", single))
        without_effect = {"sample_size": 64, "upcast_attention": False}
        expected = UNetConfig.load(preset).to_dict() | without_effect
        assert found.config.to_dict() | without_effect == expected
        assert found.title == FAMILIES[preset]


def test_the_table_and_the_map_of_a_file_name_its_family(tmp_path, capsys):
    file = full("sd15", tmp_path / "dreamlike.safetensors")
    first = ux.shape_table("sd15", depth=1)
    table = ux.shape_table(file, depth=1)
    assert table.title == f"{file}, Stable Diffusion 1.x"
    assert table.rows == first.rows
    assert ux.umap(str(file)).title == table.title
    assert ux.summary(file).total_params == 859_520_964
    assert main(["shapes", str(file), "--depth", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "dreamlike.safetensors, Stable Diffusion 1.x: batch 2, latents 64x64" in shown


YAML = "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n"
V = "v_prediction"


@pytest.mark.parametrize(
    ("preset", "yaml", "others", "metadata", "expected"),
    [
        ("sd15", None, (), {}, ("epsilon", 64)),
        ("sd15", None, ("v_pred",), {}, (V, 64)),
        ("sd21", None, (), {}, (V, 96)),
        ("sd21", f'{YAML}    parameterization: "v"\n', (), {}, (V, 96)),
        ("sd21", YAML, (), {}, ("epsilon", 64)),
        ("sd21", "nothing: of the kind\n", (), {}, (V, 96)),
        ("sd21", None, (), {"modelspec.prediction_type": "epsilon"}, ("epsilon", 64)),
        ("sd15", None, (), {"modelspec.prediction_type": "v"}, (V, 64)),
        ("sd2-depth", None, (), {}, ("epsilon", 64)),
    ],
)  # fmt: skip
def test_what_is_predicted_is_said_beside_the_tensors_or_as_in_the_familys_own(
    preset, yaml, others, metadata, expected, tmp_path
):
    if yaml:
        (tmp_path / "model.yaml").write_text(yaml)
    found = family_of(full(preset, tmp_path / "model.safetensors", others=others, **metadata))
    assert (found.prediction, found.config.sample_size) == expected


PARTS = ("first_stage_model.a", "cond_stage_model.model.a", "cond_stage_model.transformer.a")
XL = ("first_stage_model.a", *(f"conditioner.embedders.{n}.a" for n in (0, 1)))
REFUSED = {
    "inpaint": (PARTS, r"inpainting.*diffusers\.StableDiffusionInpaintPipeline\.from_single_file"),
    "ip2p": (PARTS, r"diffusers\.StableDiffusionInstructPix2PixPipeline\.from_single_file"),
    "sd2-depth": (PARTS, r"with depth.*from_pretrained\('stabilityai/stable-diffusion-2-depth'"),
    "lcm": (PARTS, r"LCM.*DiffusionPipeline\.from_pretrained\('SimianLuo/LCM_Dreamshaper_v7'"),
    "unclip-l": (PARTS, r"from_pretrained\('stabilityai/stable-diffusion-2-1-unclip-small'"),
    "x4": (PARTS, r"upscaler.*diffusers\.StableDiffusionUpscalePipeline\.from_single_file"),
    "refiner": (XL, r"refiner.*diffusers\.StableDiffusionXLImg2ImgPipeline\.from_single_file"),
    "sdxl": ((*XL, "edm_mean"), r"EDM.*StableDiffusionXLPipeline\.from_single_file"),
}


@pytest.mark.parametrize("preset", REFUSED)
def test_a_single_file_of_another_kind_is_refused_with_what_runs_it(preset, tmp_path):
    others, words = REFUSED[preset]
    file = full(preset, tmp_path / "model.safetensors", others=others)
    with pytest.raises(ValueError, match=f"(?s){words}") as refusal:
        ux.load(file, device="cpu")
    assert str(refusal.value).startswith(f"{file}: ")
    for name in re.findall(r"diffusers\.(\w+)\.from_single_file", str(refusal.value)):
        assert hasattr(getattr(diffusers, name), "from_single_file")


def test_a_part_that_a_single_file_lacks_is_named(tmp_path):
    file = tmp_path / "model.safetensors"
    for others, missing in (((), "vae, no text_encoder"), (XL[:1], "text_encoder")):
        full("sd15", file, others=others)
        with pytest.raises(ValueError, match=rf"1\.x there is no {missing}\. UNet2D"):
            ux.load(file, device="cpu")
    full("sd15", file, single=False)
    with pytest.raises(ValueError, match=r"a UNet alone \(Stable Diffusion 1\.x\)"):
        ux.load(file, device="cpu")
    full("sd15", file, others=PARTS)
    with pytest.raises(ValueError, match=r"lacks 248 tensors, as encoder\.conv_in\.weight"):
        ux.load(file, device="cpu")


NO_UNET = {
    "lora_unet_down_blocks_0_attentions_0.lora_down.weight": "LoRA.*load_lora_weights",
    "control_model.input_blocks.0.0.weight": r"ControlNet.*ux\.record",
    "controlnet_cond_embedding.conv_in.weight": r"ControlNet.*ux\.record",
    "first_stage_model.decoder.conv_in.weight": "a VAE.*whole checkpoint",
    "cond_stage_model.transformer.text_model.final_layer_norm.bias": "a text encoder.*whole",
    "cond_stage_model.model.transformer.resblocks.0.ln_1.bias": "a text encoder.*whole",
    "emb_params": "textual inversion.*load_textual_inversion",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "Diffusion 3.*no UNet",
    "double_blocks.0.img_attn.proj.weight": "FLUX.*no UNet",
    "model.diffusion_model.blocks.0.weight": r"It has 1 tensors, as model\.diffusion_model\.bl",
    "something.else": r"It has 1 tensors, as something\.else",
}


@pytest.mark.parametrize("name", NO_UNET)
def test_a_file_without_a_unet_is_named_for_what_it_is(name, tmp_path):
    file = compvis.sparse(tmp_path / "model.safetensors", {name: torch.zeros(2)})
    for ask in (ux.load, from_pretrained, ux.shape_table, ux.summary, ux.umap):
        with pytest.raises(ValueError, match=NO_UNET[name]) as refusal:
            ask(file)
        assert str(refusal.value).startswith(f"{file} holds no UNet. ")


def test_what_is_of_no_known_family_is_said_with_what_was_found(tmp_path):
    first = {"conv_in.weight": torch.zeros(320, 4, 3, 3)}  # as if cut off by the tool that wrote it
    file = compvis.sparse(tmp_path / "model.safetensors", first)
    with pytest.raises(
        ValueError, match=r"of 1 tensors, is of no family .*block_out_channels=\(\)"
    ):
        ux.shape_table(file)
    state = {n: t for n, t in tensors("sd15").items() if "transformer_blocks" not in n}
    compvis.sparse(file, compvis.unet(state, 2))
    words = r"\(320, 640, 1280, 1280\).*depths=\(\(0, 0\).*heads.*config\.json"
    with pytest.raises(ValueError, match=words):
        from_pretrained(file)
    compvis.sparse(tmp_path / "a-00001-of-00002.safetensors", first)
    with pytest.raises(ValueError, match="one shard of several; give the folder"):
        from_pretrained(tmp_path / "a-00001-of-00002.safetensors")


@pytest.mark.parametrize("single", [True, False])
def test_a_known_unet_that_is_not_whole_is_refused(single, tmp_path):
    file, name = tmp_path / "model.safetensors", "up_blocks.3.resnets.2.conv1.bias"
    state = {n: t for n, t in tensors("sd15").items() if n != name}
    compvis.sparse(file, compvis.unet(state, 2) if single else state)
    words = "lacks 1 tensors of its shapes and has 0" if single else f"lacks 1 tensors, as {name}"
    with pytest.raises(ValueError, match=words):
        ux.shape_table(file)


def test_a_config_json_beside_a_unet_of_no_known_family_tells_it(tiny_folder):
    file = tiny_folder / "unet/diffusion_pytorch_model.safetensors"
    assert ux.shape_table(file).rows == ux.shape_table(tiny_folder).rows
    assert ux.shape_table(file).title == f"{file}, a UNet by the config.json beside it"
    read, known = from_pretrained(file), from_pretrained(tiny_folder)
    assert read.config == known.config
    assert all(torch.equal(read.state_dict()[n], t) for n, t in known.state_dict().items())


class Runs:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_not_opened_and_how_to_get_safetensors_is_said(suffix, zipped, tmp_path):
    file = tmp_path / f"model{suffix}"
    file.write_bytes(pickle.dumps({"a": Runs()}))
    if zipped:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("model/data.pkl", pickle.dumps({"a": Runs()}))
    for ask in (ux.load, from_pretrained, ux.shape_table, ux.summary, ux.umap):
        with pytest.raises(ValueError, match=r"get the checkpoint's \.safetensors file, or write"):
            ask(file)
    start = time.perf_counter()
    assert main(["heatmap", "a cat", "--model", str(file)]) == 2
    assert time.perf_counter() - start < 2


def test_the_lines_of_that_refusal_write_it(tmp_path, capsys):
    file = tmp_path / "model.ckpt"
    state = {"b": torch.arange(6.0).reshape(2, 3).T, "step": 7}
    torch.save({"state_dict": state, "epoch": 3}, file)
    assert main(["shapes", str(file)]) == 2
    lines = re.findall(r"^    (.*)", capsys.readouterr().err, re.MULTILINE)
    exec("\n".join(lines))
    assert torch.equal(load_file(tmp_path / "model.safetensors")["b"], state["b"])


def test_text_encoders_have_heads_of_64_channels_which_no_shape_tells():
    for encoder in TABLES["text_encoders"].values():
        config = encoder["config"]
        assert config["hidden_size"] == 64 * config["num_attention_heads"]


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    for ask in (ux.load, from_pretrained, ux.shape_table, ux.umap):
        with pytest.raises(FileNotFoundError, match="no such folder or file"):
            ask(str(tmp_path / "none.safetensors"))


def on_meta(make):
    with torch.device("meta"):
        return make().state_dict()


def full_size_parts(family: str) -> tuple[str, dict]:
    """The preset of its UNet, and the other tensors of a full-size file, without numbers."""
    blocks = dict(block_out_channels=[128, 256, 512, 512], layers_per_block=2)
    vae = on_meta(
        lambda: diffusers.AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            **blocks,
        )
    )

    def text(cls, width, layers):
        config = transformers.CLIPTextConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
            num_attention_heads=width // 64, projection_dim=width,
        )  # fmt: skip
        return on_meta(lambda: cls(config))

    one, two = transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection
    large, vae = lambda: text(one, 768, 12), compvis.vae(vae, 4)
    if family == "sd1":
        return "sd15", vae | compvis.clip(large(), "cond_stage_model.transformer.")
    if family == "sd2":  # of 24 layers the last is not used, and is left out
        return "sd21", vae | compvis.open_clip(text(one, 1024, 23), "cond_stage_model.model.")
    first = compvis.clip(large(), "conditioner.embedders.0.transformer.")
    second = compvis.open_clip(text(two, 1280, 32), "conditioner.embedders.1.model.")
    return "sdxl", vae | first | second


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_full_size_file_fits_but_for_what_was_taken_out(family, tmp_path):
    """Of the last part that is compared, so that all before it fits; no tensor is read."""
    preset, others = full_size_parts(family)
    last = [name for name in others if name.endswith(("final_layer_norm.bias", "ln_final.bias"))]
    del others[last[-1]]
    state = compvis.unet(tensors(preset), LAYERS) | others
    file = compvis.sparse(tmp_path / "model.safetensors", state)
    words = r"lacks 1 tensors, as (text_model\.)?final_layer_norm\.bias\. Is the config"
    with pytest.raises(ValueError, match=words):
        ux.load(file, device="cpu")


@pytest.mark.slow
def test_a_full_size_file_is_loaded_and_run(tmp_path):
    """Stable Diffusion 1.x, all zeros."""
    preset, others = full_size_parts("sd1")
    state = compvis.unet(tensors(preset), LAYERS) | others
    file = compvis.sparse(tmp_path / "model.safetensors", state)
    pipe = ux.load(file, device="cpu", dtype="bfloat16")
    assert sum(parameter.numel() for parameter in pipe.unet.parameters()) == 859_520_964
    run = pipe("a photo of a cat", steps=1, height=64, width=64)
    assert run.prompt.ids[0, :6].tolist() == [49406, 320, 1125, 539, 320, 2368]
    assert run.image.size == (64, 64)

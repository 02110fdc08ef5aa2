"""This package's UNet in the hands of diffusers: what works there, and what is refused."""

import copy
import json
import pickle

import diffusers
import pipelines
import pytest
import torch
from any_cases import ip_state
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save_file

import unet_explained as ux

THEIRS = diffusers.UNet2DConditionModel
X, TEXT = torch.randn(2, 4, 8, 12), torch.randn(2, 77, pipelines.WIDTHS[0])
# The same there and here, beside what every torch module has.
ALIKE = """
    class_embedding config config_name conv_act conv_in conv_norm_out conv_out device down_blocks
    dtype enable_group_offload from_config from_pretrained get_aug_embed get_class_embed
    get_memory_footprint get_time_embed is_gradient_checkpointing mid_block num_parameters
    push_to_hub save_pretrained time_embedding time_proj up_blocks
"""
REFUSED = r"ux\.to_diffusers\(unet\)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline, saved by diffusers."""
    path = tmp_path_factory.mktemp("theirs")
    pipelines.build("sd")[0].save_pretrained(path)
    return path


@pytest.fixture
def theirs(folder):
    return pipeline(folder)


@pytest.fixture
def ours(folder):
    return ux.UNet2DConditionModel.from_pretrained(folder, device="cpu", dtype="float32")


@pytest.fixture
def mixed(theirs, ours):
    theirs.unet = ours
    return theirs


def pipeline(folder, **parts):
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents(pipe):
    return pipelines.run(pipe, num_inference_steps=2, output_type="latent")


def test_every_public_name_of_theirs_is_here_or_refused(ours):
    names = {name for name in (*dir(THEIRS), *dir(THEIRS(**pipelines.UNET))) if name[0] != "_"}
    names -= set(dir(torch.nn.Module()))
    alike = set(ALIKE.split())
    assert names > alike
    assert all(hasattr(ours, name) for name in alike)
    for name in names - alike:
        with pytest.raises(AttributeError, match=f"^{name} is of diffusers'.*{REFUSED}"):
            getattr(ours, name)()


def test_a_network_alone_refuses_too():
    alone = ux.UNet2DConditionModel.from_config(pipelines.UNET, seed=0)
    with pytest.raises(AttributeError, match=REFUSED):
        alone.enable_freeu(1, 1, 1, 1)
    with pytest.raises(AttributeError, match=REFUSED):
        ux.UNet2DConditionModel.from_single_file("model.safetensors")
    assert not hasattr(alone, "attn_processors")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = alone.nonsense


@pytest.mark.parametrize("way", ["assigned", "passed"])
def test_in_a_pipeline_it_generates_and_is_saved_for_all(way, folder, tmp_path, ours):
    pipe = pipeline(folder)
    expected = latents(pipe)
    pipe = pipeline(folder, unet=ours) if way == "passed" else pipe
    pipe.unet = ours
    assert pipe.unet is ours
    assert torch.allclose(latents(pipe), expected, atol=1e-4)
    pipe.save_pretrained(tmp_path)
    named = json.loads((tmp_path / "model_index.json").read_text())["unet"]
    assert named == ["diffusers", "UNet2DConditionModel"]
    again = pipeline(tmp_path)
    assert type(again.unet) is THEIRS
    assert torch.equal(latents(again), expected)
    loaded = ux.load(tmp_path, device="cpu").unet
    assert torch.equal(loaded.conv_out.weight, ours.conv_out.weight)


def test_a_pipeline_passes_on_how_to_save_it(mixed, tmp_path):
    mixed.save_pretrained(tmp_path, variant="fp16", max_shard_size="100KB")
    names = [file.name for file in (tmp_path / "unet").glob("*.fp16-00001-of-*.safetensors")]
    assert len(names) == 1
    assert torch.allclose(latents(pipeline(tmp_path, variant="fp16")), latents(mixed), atol=1e-4)


def test_a_pipeline_moves_it(mixed):
    mixed.to("cpu", torch.bfloat16)
    assert {mixed.dtype, mixed.unet.dtype, latents(mixed).dtype} == {torch.bfloat16}
    mixed.to("meta")
    assert {mixed.device.type, mixed.unet.device.type} == {"meta"}


def test_a_pipeline_is_made_of_anothers_parts(mixed):
    """from_pipe takes over a model of its own class alone, and says that one is passed."""
    other = diffusers.StableDiffusionImg2ImgPipeline
    assert other.from_pipe(mixed, unet=mixed.unet).unet is mixed.unet
    assert other(**mixed.components).unet is mixed.unet
    assert diffusers.AutoPipelineForImage2Image.from_pipe(mixed).unet is mixed.unet


@pytest.mark.parametrize(
    "kind",
    ["img2img", "inpaint", "depth", "pix2pix", "upscale", "lcm", "controlnet", "t2i", "panorama",
     "xl", "xl_controlnet", "refiner"],
)  # fmt: skip
def test_in_pipelines_of_every_kind_it_generates_what_theirs_does(kind):
    pipe, options = pipelines.build(kind)
    expected = pipelines.run(pipe, **options)
    pipe.unet = ux.from_diffusers(pipe.unet)
    assert torch.allclose(pipelines.run(pipe, **options), expected, atol=1e-3)


def test_it_is_recorded_there(mixed):
    with ux.record(mixed) as rec:
        latents(mixed)
    assert rec.attention("circle").shape == (8, 8)
    assert not rec.unknown


@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_its_groups_are_offloaded(kind, ours):
    expected = ours(X, 500, TEXT).sample
    ours.enable_group_offload(
        torch.device("cpu"), torch.device("cpu"), offload_type=kind, num_blocks_per_group=1
    )
    assert ours(X, 500, TEXT).sample.equal(expected)


def test_counts_are_theirs(ours, theirs):
    assert ours.num_parameters() == theirs.unet.num_parameters()
    assert ours.get_memory_footprint() == theirs.unet.get_memory_footprint()
    assert ours.is_gradient_checkpointing is False


def test_it_is_copied_and_pickled(ours):
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert twin(X, 500, TEXT).sample.equal(ours(X, 500, TEXT).sample)
        assert isinstance(twin, diffusers.ModelMixin)


def test_its_config_reads_as_a_dict(ours, theirs):
    config, reference = ours.config, theirs.unet.config
    assert config["in_channels"] == config.get("in_channels") == config.in_channels == 4
    assert config.get("nonsense", 5) == 5
    assert "sample_size" in config
    here, there = dict(config), {name: reference[name] for name in config}
    assert json.loads(json.dumps(here)) == json.loads(json.dumps(there))
    assert list(THEIRS(**config).config.block_out_channels) == [16, 32]
    for ask in (lambda: config["nonsense"], lambda: config.nonsense):
        with pytest.raises((KeyError, AttributeError), match="no option 'nonsense'"):
            ask()


def test_its_output_reads_as_theirs(ours):
    output = ours(X, 500, TEXT)
    assert output["sample"] is output[0] is output.sample
    assert type(ours(X, 500, TEXT, return_dict=False)) is tuple
    with pytest.raises(KeyError, match="nonsense"):
        output["nonsense"]


ASKED = {
    "LoRA": lambda pipe: pipe.load_lora_weights(lora()),
    "LoRA off": lambda pipe: pipe.disable_lora(),
    "LoRA's scale": lambda pipe: pipe.fuse_lora(),
    "attention's processors": lambda pipe: pipe.unet.set_attn_processor(AttnProcessor()),
    "FreeU": lambda pipe: pipe.enable_freeu(1, 1, 1, 1),
    "fused projections": lambda pipe: pipe.fuse_qkv_projections(),
    "slicing": lambda pipe: pipe.enable_attention_slicing(),
    "xformers": lambda pipe: pipe.enable_xformers_memory_efficient_attention(),
    "gradient checkpointing": lambda pipe: pipe.unet.enable_gradient_checkpointing(),
    "ControlNet": lambda pipe: diffusers.ControlNetModel.from_unet(pipe.unet),
    "IP-Adapter": lambda pipe: load_ip_adapter(pipe),
    "IP-Adapter's scale": lambda pipe: pipe.set_ip_adapter_scale(0.5),
    "PAG": lambda pipe: latents(diffusers.StableDiffusionPAGPipeline(**pipe.components)),
    "SAG": lambda pipe: latents(diffusers.StableDiffusionSAGPipeline(**pipe.components)),
    "motion": lambda pipe: diffusers.UNetMotionModel.from_unet2d(pipe.unet, pipelines.motion()),
}


def load_ip_adapter(pipe):
    pipe.load_ip_adapter(ip_state(pipelines.unet(), 0), None, "", image_encoder_folder=None)


def lora() -> dict[str, torch.Tensor]:
    """A small one, of one layer, with the names that it has in a file."""
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
    sides = {"lora_A": (2, 32), "lora_B": (32, 2)}
    return {f"unet.{layer}.{side}.weight": torch.randn(shape) for side, shape in sides.items()}


@pytest.mark.parametrize("what", ASKED)
def test_what_needs_their_code_fails_at_once_and_says_what_to_use(what, mixed):
    before = latents(mixed)
    with pytest.raises(AttributeError, match=REFUSED):
        ASKED[what](mixed)
    assert torch.equal(latents(mixed), before)
    mixed.unet = ux.to_diffusers(mixed.unet)
    if what != "xformers":  # which is not installed
        ASKED[what](mixed)


def embedding(folder) -> str:
    file = folder / "learned.pt"
    torch.save({"<frog>": torch.randn(pipelines.WIDTHS[0])}, file)
    return str(file)


def test_textual_inversion_is_the_text_encoders_alone(mixed, tmp_path):
    mixed.text_encoder = copy.deepcopy(mixed.text_encoder)
    mixed.load_textual_inversion(embedding(tmp_path))
    with ux.record(mixed) as rec:
        pipelines.run(mixed, "a <frog>", num_inference_steps=2, output_type="latent")
    assert rec.attention("<frog>").shape == (8, 8)


def test_lora_and_textual_inversion_by_their_loaders_on_their_pipeline(theirs, tmp_path):
    """As the README says it."""
    pipe, file = theirs, tmp_path / "lora.safetensors"
    save_file(lora(), file)
    plain = latents(pipe)
    pipe.load_lora_weights(file)
    pipe.load_textual_inversion(embedding(tmp_path))
    with ux.record(pipe) as rec:
        changed = latents(pipe)
    assert not torch.allclose(changed, plain, atol=1e-3)
    assert torch.equal(changed, latents(pipe))
    assert rec.attention("circle").shape == (8, 8)

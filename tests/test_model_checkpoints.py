"""Every published checkpoint is built from its config file alone, and has its published size."""

import dataclasses
import inspect
import json
from functools import cache

import diffusers
import pytest
import torch
from model_reference import FAMILIES, OPTIONS, options_of, pair
from torch import nn

from unet_explained.model import PRESETS, Attention, UNet2DConditionModel, UNetConfig
from unet_explained.model.options import NOT_COVERED

# Millions of parameters, tensors of the state dict, attention layers.
CHECKPOINTS = {
    "sd14": (859.52, 686, 32),
    "sd15": (859.52, 686, 32),
    "variations": (859.52, 686, 32),
    "inpaint": (859.54, 686, 32),
    "ip2p": (859.53, 686, 32),
    "lcm": (859.60, 687, 32),
    "sd21-base": (865.91, 686, 32),
    "sd21": (865.91, 686, 32),
    "sd-turbo": (865.91, 686, 32),
    "sd2-inpaint": (865.93, 686, 32),
    "sd2-depth": (865.91, 686, 32),
    "unclip-h": (870.17, 690, 32),
    "unclip-l": (869.52, 690, 32),
    "x4": (473.40, 687, 32),
    "sdxl": (2567.46, 1680, 140),
    "sdxl-turbo": (2567.46, 1680, 140),
    "refiner": (2259.53, 1220, 88),
    "ssd1b": (1331.33, 944, 68),
    "vega": (745.23, 564, 30),
}
# The config files of SD 1.4, which is minimal and names a Flax class, and of SD 1.5, with nulls.
MINIMAL = {
    "_class_name": "FlaxUNet2DConditionModel",
    "_diffusers_version": "0.3.0",
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "mid_block_scale_factor": 1,
    "sample_size": 64,
}
NULLS = MINIMAL | {
    "_class_name": "UNet2DConditionModel",
    "_name_or_path": "somewhere/unet",
    "class_embed_type": None,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "an_option_of_the_future": None,
    "upcast_attention": None,
    "use_linear_projection": False,
}


@cache
def on_meta(kind: type, config: UNetConfig) -> nn.Module:
    """A full-size model that takes no memory."""
    with torch.device("meta"):
        return kind.from_config(config.to_dict())


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def test_there_is_a_size_for_every_preset():
    assert set(CHECKPOINTS) == set(PRESETS) - {"bundled"}


@pytest.mark.parametrize("preset", CHECKPOINTS)
def test_a_checkpoint_has_its_published_size(preset):
    model = on_meta(UNet2DConditionModel, UNetConfig.load(preset))
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    sizes = (round(millions, 2), len(model.state_dict()), len(layers))
    assert sizes == CHECKPOINTS[preset]


@pytest.mark.parametrize("preset", CHECKPOINTS)
def test_a_checkpoint_has_the_keys_and_shapes_of_diffusers(preset):
    config = UNetConfig.load(preset)
    # These make no difference to shapes; without them fewer references need be built.
    same = dataclasses.replace(config, sample_size=None, upcast_attention=False)
    reference = on_meta(diffusers.UNet2DConditionModel, same)
    assert shapes(on_meta(UNet2DConditionModel, config)) == shapes(reference)


def test_missing_options_take_the_defaults_of_diffusers():
    theirs = {
        name: parameter.default
        for name, parameter in inspect.signature(diffusers.UNet2DConditionModel).parameters.items()
    }
    ours = dataclasses.asdict(UNetConfig())
    assert ours == {name: theirs[name] for name in ours}
    left = set(theirs) - set(ours)
    assert left == set(NOT_COVERED), "an option is neither covered nor refused"
    assert all(theirs[name] in NOT_COVERED[name] for name in left)


@pytest.mark.parametrize("name", [*FAMILIES, *OPTIONS])
def test_a_config_that_diffusers_wrote_is_read(name, tmp_path):
    pair(name)[0].save_config(tmp_path)
    assert UNetConfig.load(tmp_path) == UNetConfig.load(options_of(name))


@pytest.mark.parametrize("name", [*FAMILIES, *OPTIONS])
def test_diffusers_reads_a_config_that_we_wrote(name):
    reference, ours = pair(name)
    written = json.loads(json.dumps(ours.config.to_dict()))
    options, unused, _ = type(reference).extract_init_dict(written)
    assert not unused
    assert options.items() <= dict(reference.config).items()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_config_survives_being_written_and_read(name):
    config = UNetConfig.load(name)
    assert UNetConfig.load(json.loads(json.dumps(config.to_dict()))) == config


def test_a_config_is_a_name_a_dict_a_file_a_folder_or_a_config(tmp_path):
    config = UNetConfig.load("x4")
    (tmp_path / "unet").mkdir()
    file = tmp_path / "unet" / "config.json"
    file.write_text(json.dumps(config.to_dict()))
    forms = [config, config.to_dict(), file, str(file), file.parent, str(file.parent), tmp_path]
    assert all(UNetConfig.load(form) == config for form in forms)


def test_a_folder_named_like_a_preset_is_reached_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sd15").mkdir()
    (tmp_path / "sd15" / "config.json").write_text(json.dumps(UNetConfig.load("x4").to_dict()))
    assert UNetConfig.load("sd15").in_channels == 4
    assert UNetConfig.load("./sd15").in_channels == 7


@pytest.mark.parametrize("options", [MINIMAL, NULLS], ids=["minimal", "nulls"])
def test_old_config_files_are_understood(options):
    assert UNetConfig.load(options) == UNetConfig.load("sd15")


def test_null_means_none_only_where_none_is_a_choice():
    config = UNetConfig.load({"mid_block_type": None, "norm_num_groups": None, "norm_eps": None})
    assert (config.mid_block_type, config.norm_num_groups, config.norm_eps) == (None, None, 1e-5)


def test_a_config_cannot_be_changed():
    config = UNetConfig.load("sd15")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.in_channels = 9
    assert hash(config) == hash(UNetConfig.load(config.to_dict()))

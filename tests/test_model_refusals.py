"""What is not covered or does not fit is refused, in words that name it; nothing is ignored."""

import pytest
import torch
from model_reference import CROSS, NARROW, SHALLOW, case, inputs_of, options_of, pair

from unet_explained.model import UNet2DConditionModel, UNetConfig
from unet_explained.model.options import FLAX, NOT_COVERED, PER_LEVEL

DEEP = NARROW | SHALLOW | CROSS | dict(layers_per_block=2)

NOT_KNOWN = [
    {"down_block_types": ["CrossAttnDownBlock2D", "AttnDownBlock2D"]},
    {"up_block_types": ["SimpleCrossAttnUpBlock2D", "CrossAttnUpBlock2D"]},
    {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"},
    {"act_fn": "geglu"},
    {"resnet_time_scale_shift": "spatial"},
    {"class_embed_type": "label"},
    {"addition_embed_type": "text"},
    {"addition_embed_type": "image"},
    {"downsample_padding": 2},
    {"num_attention_heads": 8},
    {"num_attention_heads": [2, 4]},
    {"dual_cross_attention": True},
    {"encoder_hid_dim": 1024},
    {"encoder_hid_dim_type": "text_proj"},
    {"attention_type": "gated"},
    {"class_embeddings_concat": True},
    {"cross_attention_norm": "layer_norm"},
    {"mid_block_only_cross_attention": True},
    {"time_embedding_type": "fourier"},
    {"time_embedding_dim": 512},
    {"time_embedding_act_fn": "silu"},
    {"timestep_post_act": "silu"},
    {"addition_embed_type_num_heads": 32},
    {"use_memory_efficient_attention": True},
    {"split_head_dim": True},
    {"dual_cross_attention": 0},
    {"ema_decay": 0.99},
    {"my_own_option": 3},
    {"my_own_option": False},
]
NOT_FITTING = [
    {"attention_head_dim": 3},
    {"attention_head_dim": [2, 5]},
    {"norm_num_groups": 12},
    {"norm_num_groups": 32},
    {"class_embed_type": "projection", "projection_class_embeddings_input_dim": None},
    {"class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": None},
    {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": None,
    },
    {
        "addition_embed_type": "text_time",
        "projection_class_embeddings_input_dim": 68,
        "addition_time_embed_dim": None,
    },
    {
        "transformer_layers_per_block": [[1, 1], [2, 2]],
        "reverse_transformer_layers_per_block": None,
    },
    {
        "reverse_transformer_layers_per_block": [[1, 1, 1], [2, 2, 2]],
        "transformer_layers_per_block": [[1], [2, 2]],
    },
    {
        "transformer_layers_per_block": [[1, 1], [2, 2]],
        "reverse_transformer_layers_per_block": [[1, 1, 1], [2, 2]],
    },
]


pytestmark = pytest.mark.usefixtures("as_users_see_it")


def as_tuple(value):
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def assert_refused(options: dict, name: str) -> None:
    """The message has the option's name and its value."""
    with pytest.raises(ValueError, match=name) as refusal:
        UNet2DConditionModel.from_config(options)
    assert f"{name}={as_tuple(options[name])!r}" in str(refusal.value)


@pytest.mark.parametrize("options", NOT_KNOWN, ids=str)
def test_an_option_that_is_not_covered_is_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.*not covered") as refusal:
        UNet2DConditionModel.from_config(DEEP | options)
    value = next(iter(options.values()))
    assert repr(value) in str(refusal.value) or repr(as_tuple(value)) in str(refusal.value)


@pytest.mark.parametrize("options", NOT_FITTING, ids=str)
def test_a_value_that_does_not_fit_the_rest_is_refused(options):
    assert_refused(DEEP | options, list(options)[-1])


@pytest.mark.parametrize("option", PER_LEVEL)
@pytest.mark.parametrize("change", ["short", "long"])
def test_a_list_without_one_entry_a_level_is_refused(option, change):
    value = UNetConfig.load(DEEP).at(option, 0)
    assert_refused(DEEP | {option: [value or 1] * (1 if change == "short" else 3)}, option)


def test_every_option_that_is_not_covered_is_tried_here():
    assert set(NOT_COVERED | FLAX) <= {name for options in NOT_KNOWN for name in options}


def test_an_option_that_is_off_is_no_reason_to_refuse():
    for name, values in (NOT_COVERED | FLAX).items():
        for value in values:
            assert UNetConfig.load(DEEP | {name: value}) == UNetConfig.load(DEEP)


def test_the_config_of_another_model_is_refused():
    with pytest.raises(ValueError, match="UNet2DConditionModel, got that of a ControlNetModel"):
        UNetConfig.load(DEEP | {"_class_name": "ControlNetModel"})


@pytest.mark.parametrize("what", ["sd51", "sdxxl", "no/such/folder"])
def test_an_unknown_name_is_answered_with_the_known_ones(what):
    with pytest.raises(ValueError, match=rf"'{what}' is no preset \(.*sd.*\)"):
        UNet2DConditionModel.from_config(what)


WIDE = torch.zeros(2, 64, 1, 1)
FORWARD = {
    "channels": ({"sample": torch.zeros(2, 9, 16, 16)}, r"sample: .*4, height.*\(2, 9, 16, 16\)"),
    "three axes": ({"sample": torch.zeros(4, 16, 16)}, r"sample: .*\(4, 16, 16\)"),
    "text width": (
        {"encoder_hidden_states": torch.zeros(2, 5, 768)},
        r"encoder_hidden_states: .*24.*\(2, 5, 768\)",
    ),
    "text batch": (
        {"encoder_hidden_states": torch.zeros(1, 5, 24)},
        r"encoder_hidden_states: .*\(1, 5, 24\)",
    ),
    "text axes": (
        {"encoder_hidden_states": torch.zeros(2, 24)},
        r"encoder_hidden_states.*\(2, 24\)",
    ),
    "timestep": ({"timestep": torch.tensor([1, 2, 3])}, "timestep: .*2 samples, got 3"),
    "class_labels": ({"class_labels": torch.tensor([1, 2])}, "class_labels: .*no class embedding"),
    "timestep_cond": ({"timestep_cond": torch.zeros(2, 12)}, "timestep_cond: .*no guidance"),
    "kwargs": (
        {"cross_attention_kwargs": {"scale": 0.5}},
        r"cross_attention_kwargs: .*\['scale'\]",
    ),
    "mask": (
        {"encoder_attention_mask": torch.ones(2, 7)},
        r"encoder_attention_mask: .*\(2, 5\).*\(2, 7\)",
    ),
    "mask batch": (
        {"encoder_attention_mask": torch.ones(1, 5)},
        r"encoder_attention_mask: .*\(2, 5\).*\(1, 5\)",
    ),
    "mask axes": (
        {"encoder_attention_mask": torch.ones(2, 1, 5)},
        r"encoder_attention_mask: .*\(2, 5\).*\(2, 1, 5\)",
    ),
    "attention_mask": (
        {"attention_mask": torch.ones(2, 256)},
        "attention_mask: attn1 looks at 4 or 16 or 64 or 256 keys",
    ),
    "no mid": ({"down_block_additional_residuals": [WIDE] * 12}, "ControlNet: .*both"),
    "no down": ({"mid_block_additional_residual": WIDE}, "ControlNet: .*both"),
    "too few": (
        {"down_block_additional_residuals": [WIDE] * 9, "mid_block_additional_residual": WIDE},
        "down_block_additional_residuals: expected 12, got 9",
    ),
    "too few of the adapter": (
        {"down_intrablock_additional_residuals": [WIDE] * 3},
        "down_intrablock_additional_residuals: expected 4 or 5, got 3",
    ),
    "too many of the adapter": (
        {"down_intrablock_additional_residuals": [WIDE] * 6},
        "down_intrablock_additional_residuals: expected 4 or 5, got 6",
    ),
}


@pytest.mark.parametrize("reason", FORWARD)
def test_inputs_that_do_not_fit_are_refused(reason):
    change, message = FORWARD[reason]
    _, ours, inputs = case("sd15")
    started = []
    handle = ours.time_proj.register_forward_hook(lambda *_: started.append(True))
    with pytest.raises(ValueError, match=message):
        ours(**inputs | change)
    handle.remove()
    assert not started, "refused only after work had begun"


@pytest.mark.parametrize(("padding", "keys"), [(1, 4 * 5), (0, 3 * 4)])
def test_a_mask_of_wrong_length_is_told_the_right_one(padding, keys):
    """Attention is below the first level alone, so attn1 has one number of keys."""
    options = NARROW | SHALLOW | dict(
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
        downsample_padding=padding,
    )  # fmt: skip
    ours, inputs = UNet2DConditionModel.from_config(options), inputs_of(options, size=(7, 9))
    with pytest.raises(ValueError, match=rf"attention_mask: .*\(2, {keys}\).*\(2, 7\)"):
        ours(**inputs, attention_mask=torch.ones(2, 7))
    assert ours(**inputs, attention_mask=torch.ones(2, keys)).sample.isfinite().all()


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("x4", "class_labels", "class_labels: this model needs them"),
        ("unclip-h", "class_labels", "class_labels: this model needs them"),
        ("class_identity", "class_labels", "class_labels: this model needs them"),
        ("sdxl", "added_cond_kwargs", r"added_cond_kwargs: .*\['text_embeds', 'time_ids'\]"),
    ],
)
def test_a_missing_condition_is_named(name, missing, message):
    _, ours, inputs = case(name)
    del inputs[missing]
    with pytest.raises(ValueError, match=message):
        ours(**inputs)


@pytest.mark.parametrize("missing", ["text_embeds", "time_ids"])
def test_a_missing_part_of_sdxls_conditions_is_named(missing):
    _, ours, inputs = case("sdxl")
    del inputs["added_cond_kwargs"][missing]
    with pytest.raises(ValueError, match=rf"added_cond_kwargs: .*\['{missing}'\]"):
        ours(**inputs)


def test_a_residual_for_a_mid_block_that_is_not_there_is_refused():
    _, ours = pair("no_mid_block")
    inputs = inputs_of(options_of("no_mid_block"))
    inputs["down_intrablock_additional_residuals"] = [WIDE] * 3
    with pytest.raises(ValueError, match="expected 2, got 3"):
        ours(**inputs)


def test_empty_cross_attention_kwargs_are_no_reason_to_refuse():
    _, ours, inputs = case("no_mid_block")
    with torch.no_grad():
        without, empty = (ours(**inputs, cross_attention_kwargs=k).sample for k in (None, {}))
    assert empty.equal(without)

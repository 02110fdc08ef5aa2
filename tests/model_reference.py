"""What the model's tests share: narrow families, inputs that fit them, and diffusers to check by.

The reference is diffusers.UNet2DConditionModel with every parameter random, see `randomise`.
"""

import re
from functools import cache

import diffusers
import torch
from torch import Tensor, nn

from unet_explained.model import UNet2DConditionModel, UNetConfig
from unet_explained.recording.nested import changed

# Heads and head sizes differ everywhere, so that one is not taken for the other.
NARROW = dict(
    block_out_channels=[16, 32, 64], norm_num_groups=8, cross_attention_dim=24, attention_head_dim=2
)
FOUR = NARROW | dict(block_out_channels=[16, 32, 64, 64])
SDXL = NARROW | dict(
    attention_head_dim=[2, 4, 4],
    addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=20 + 6 * 8,
)
SHALLOW = dict(
    block_out_channels=[16, 32],
    layers_per_block=1,
    down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
    up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
)
CROSS = dict(
    down_block_types=["CrossAttnDownBlock2D"] * 2, up_block_types=["CrossAttnUpBlock2D"] * 2
)

# Each family: a preset, and what is changed to make it narrow.
FAMILIES = {
    "sd15": FOUR,
    "inpaint": FOUR,
    "lcm": FOUR | dict(time_cond_proj_dim=12),
    "sd21": FOUR | dict(attention_head_dim=[2, 4, 4, 4]),
    "unclip-h": FOUR | dict(projection_class_embeddings_input_dim=20),
    "x4": FOUR | dict(num_class_embeds=50),
    "sdxl": SDXL | dict(transformer_layers_per_block=[1, 2, 3]),
    "ssd1b": SDXL,
    "refiner": FOUR
    | dict(
        transformer_layers_per_block=2,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 5 * 8,
    ),
}
TIME_IDS = {"refiner": 5}  # SDXL's other members give each picture 6: sizes, crops and target

# Options that no checkpoint above sets, each on two levels of one layer.
OPTIONS = {
    "layers_as_list": dict(layers_per_block=[1, 3]),
    "depth_as_list": CROSS | dict(transformer_layers_per_block=[2, 1]),
    "text_width_as_list": CROSS | dict(cross_attention_dim=[24, 24]),
    "no_mid_block": dict(mid_block_type=None),
    "plain_mid_block": dict(mid_block_type="UNetMidBlock2D"),
    "only_cross_attention": CROSS | dict(only_cross_attention=True),
    "class_table": dict(num_class_embeds=7),
    "class_timestep": dict(class_embed_type="timestep"),
    "class_identity": dict(class_embed_type="identity"),
    "class_projection": dict(
        class_embed_type="projection", projection_class_embeddings_input_dim=20
    ),
    "class_simple_projection": dict(
        class_embed_type="simple_projection", projection_class_embeddings_input_dim=20
    ),
    "class_type_wins": dict(class_embed_type="timestep", num_class_embeds=7),
    "scale_shift": dict(resnet_time_scale_shift="scale_shift"),
    "scale_shift_plain_mid": dict(
        resnet_time_scale_shift="scale_shift", mid_block_type="UNetMidBlock2D"
    ),
    "mid_scale": dict(mid_block_scale_factor=1.7),
    "mid_scale_plain": dict(mid_block_scale_factor=1.7, mid_block_type="UNetMidBlock2D"),
    "centered": dict(center_input_sample=True),
    "sin_first": dict(flip_sin_to_cos=False),
    "freq_shift": dict(freq_shift=1),
    "sin_first_added": dict(
        flip_sin_to_cos=False,
        freq_shift=1,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 6 * 8,
    ),
    "kernels": dict(conv_in_kernel=5, conv_out_kernel=1),
    "padding_0": dict(downsample_padding=0),
    "norm_eps": dict(norm_eps=1e-3),
    "channels": dict(in_channels=5, out_channels=8),
    "linear_projection": dict(use_linear_projection=True),
    "mish": dict(act_fn="mish"),
    "gelu": dict(act_fn="gelu"),
    "relu": dict(act_fn="relu"),
    "swish": dict(act_fn="swish"),
    "act_in_time_and_class": dict(act_fn="gelu", class_embed_type="timestep", time_cond_proj_dim=6),
    "no_act_in_projections": dict(
        act_fn="gelu",
        class_embed_type="projection",
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 6 * 8,
    ),
    "heads_that_fit_where_there_is_attention": dict(
        block_out_channels=[8, 32],
        attention_head_dim=16,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
    ),
    "no_effect": CROSS
    | dict(upcast_attention=True, resnet_skip_time_act=True, resnet_out_scale_factor=3.0),
}
# What writes to the stream of hidden states: kept small, so that every eps of a norm shows.
QUIET = re.compile(r"(conv_in|conv2|proj_out)\.|(conv_shortcut|samplers\.0\.conv)\.bias")


def options_of(name: str) -> dict:
    """The config of a family or option by its name, as a checkpoint's config.json has it."""
    if name in FAMILIES:
        return UNetConfig.load(name).to_dict() | FAMILIES[name]
    return NARROW | SHALLOW | OPTIONS[name]


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Make every parameter random, on a quiet stream.

    Default initialisation (scales 1, biases 0) hides swapped norms and missing biases; a stream of
    ordinary loudness hides a wrong eps.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_((parameter + noise) * (0.01 if QUIET.search(name) else 1))
    return model


def reference_of(options: dict) -> diffusers.UNet2DConditionModel:
    """diffusers' model of a config, random."""
    torch.manual_seed(0)
    return randomise(diffusers.UNet2DConditionModel.from_config(options)).eval()


def ours_of(options: dict, reference: nn.Module) -> UNet2DConditionModel:
    """Our model with the reference's weights; the keys must be equal."""
    ours = UNet2DConditionModel.from_config(options)
    assert set(ours.state_dict()) == set(reference.state_dict())
    ours.load_state_dict(reference.state_dict(), strict=True)
    return ours.to(reference.conv_in.weight.dtype)


@cache
def pair(name: str) -> tuple[diffusers.UNet2DConditionModel, UNet2DConditionModel]:
    """The reference and our model with its weights; shared, so not to be changed."""
    reference = reference_of(options_of(name))
    return reference, ours_of(options_of(name), reference)


def inputs_of(options: dict, size=(16, 16), batch=2, tokens=5, ids=6) -> dict[str, object]:
    """Random keyword arguments for a forward of a model of this config."""
    config = UNetConfig.load(options)
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    inputs = dict(
        sample=normal(batch, config.in_channels, *size),
        timestep=torch.tensor(417),
        encoder_hidden_states=normal(batch, tokens, config.at("cross_attention_dim", 0)),
    )
    match config.class_embed_type:
        case "timestep":
            inputs["class_labels"] = torch.tensor([3, 250, 999][:batch])
        case "identity":
            inputs["class_labels"] = normal(batch, config.time_embed_dim)
        case "projection" | "simple_projection":
            inputs["class_labels"] = normal(batch, config.projection_class_embeddings_input_dim)
        case None if config.num_class_embeds:
            inputs["class_labels"] = torch.tensor([3, 6, 0][:batch])
    if config.time_cond_proj_dim:
        inputs["timestep_cond"] = normal(batch, config.time_cond_proj_dim)
    if config.addition_embed_type:
        pooled = config.projection_class_embeddings_input_dim - ids * config.addition_time_embed_dim
        sizes = torch.randint(0, 1024, (batch, ids), generator=generator)
        inputs["added_cond_kwargs"] = dict(text_embeds=normal(batch, pooled), time_ids=sizes)
    return inputs


def case(name: str, **inputs) -> tuple[nn.Module, UNet2DConditionModel, dict]:
    """Reference, our model and inputs of a family or option."""
    return *pair(name), inputs_of(options_of(name), ids=TIME_IDS.get(name, 6), **inputs)


def cast(inputs: dict, dtype: torch.dtype) -> dict:
    """The same inputs, those that are not whole numbers in another dtype."""
    return changed(inputs, lambda value: value.to(dtype) if value.is_floating_point() else value)


def tensors(output) -> list[Tensor]:
    """The tensors of a module's output, however it packs them."""
    if isinstance(output, Tensor):
        return [output]
    items = output.values() if isinstance(output, dict) else output
    return [tensor for item in items for tensor in tensors(item)]


def recorded(model: nn.Module, inputs: dict, copy: bool = True) -> dict[str, list[Tensor]]:
    """What every module gave, call after call, under its name; "" is the model itself."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name):
        def hook(module, args, output):
            seen.setdefault(name, []).extend(t.clone() if copy else t for t in tensors(output))

        return hook

    with_hooks(model, inputs, {name: keep(name) for name, _ in model.named_modules()})
    return seen


def noise(tensors: list[Tensor]) -> list[Tensor]:
    """Small random tensors of the same sizes."""
    generator = torch.Generator().manual_seed(2)
    return [0.1 * torch.randn(t.shape, generator=generator) for t in tensors]


def controlnet(seen: dict, levels: int) -> dict:
    """A residual for each skip and one for mid, of the sizes seen in a forward."""
    skips = seen["conv_in"] + [t for i in range(levels) for t in seen[f"down_blocks.{i}"][1:]]
    return dict(
        down_block_additional_residuals=tuple(noise(skips)),
        mid_block_additional_residual=noise(seen["mid_block"])[0],
    )


def adapter(seen: dict, reference: nn.Module, mid: bool) -> dict:
    """A T2I-Adapter's residuals: one a down block, of its last layer's size, and one for mid."""
    places = [
        seen[f"down_blocks.{i}"][len(block.resnets) if hasattr(block, "attentions") else 0]
        for i, block in enumerate(reference.down_blocks)
    ]
    residuals = noise(places + seen["mid_block"] * mid)
    return dict(down_intrablock_additional_residuals=residuals)


def error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference as a share of the largest absolute value."""
    if actual.shape != expected.shape:
        return float("inf")
    if not expected.any():
        return actual.abs().max().item()
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def called(reference: nn.Module) -> set[str]:
    """Names of the reference's modules that do something: all but the containers."""
    return {n for n, m in reference.named_modules() if not isinstance(m, nn.ModuleList)}


def assert_parity(
    reference: nn.Module, ours: nn.Module, inputs: dict, but: set = frozenset(), copy: bool = True
) -> None:
    """Fail unless each module of the reference has its equal in ours, to 1e-5 of its largest value.

    but: names of modules whose outputs differ by design. copy: False saves memory, where the
    reference changes no tensor in place.
    """
    assert_recorded(recorded(reference, inputs, copy), reference, ours, inputs, but)


def assert_recorded(expected, reference, ours, inputs, but=frozenset(), tolerance=1e-5) -> None:
    """assert_parity with what the reference gave already at hand."""
    assert called(reference) == set(expected), "the reference has modules that were not compared"
    errors = errors_of(expected, ours, inputs)
    missing = {name for name in expected if len(errors.get(name, ())) != len(expected[name])}
    assert not missing, f"not called, or not as often: {sorted(missing)}"
    wrong = {n: e for n, e in errors.items() if n not in but and not all(x <= tolerance for x in e)}
    first = list(wrong.items())[:3]  # in the order of execution
    assert not wrong, f"outputs differ in {len(wrong)} of {len(errors)} modules, first {first}"


def errors_of(expected: dict, model: nn.Module, inputs: dict) -> dict[str, list[float]]:
    """How far each output of each module with a known name is from what is expected."""
    errors: dict[str, list[float]] = {}

    def compare(name):
        def hook(module, args, output):
            seen = errors.setdefault(name, [])
            for tensor in tensors(output):
                known = len(seen) < len(expected[name])
                seen.append(error(tensor, expected[name][len(seen)]) if known else float("inf"))

        return hook

    with_hooks(model, inputs, {name: compare(name) for name in expected})
    return errors


@torch.no_grad()
def with_hooks(model: nn.Module, inputs: dict, hooks: dict) -> None:
    """A forward with a hook on each module named, where there is one of that name."""
    modules = dict(model.named_modules())
    handles = [modules[n].register_forward_hook(h) for n, h in hooks.items() if n in modules]
    try:  # diffusers takes from the lists that it is given
        model(**{k: list(v) if isinstance(v, list) else v for k, v in inputs.items()})
    finally:
        for handle in handles:
            handle.remove()

"""The network in use: it trains, copies, changes dtype and layout, and stands in a pipeline."""

import copy

import diffusers
import pytest
import torch
from model_reference import (
    adapter,
    case,
    cast,
    controlnet,
    error,
    inputs_of,
    options_of,
    ours_of,
    randomise,
    recorded,
    reference_of,
    tensors,
)
from torch import nn

from unet_explained.model import Attend, UNet2DConditionModel


def fresh(name: str) -> tuple[UNet2DConditionModel, dict]:
    """A model of one's own with every parameter random, and inputs for it."""
    options = options_of(name)
    return ours_of(options, reference_of(options)), inputs_of(options)


def without_gradient(model: nn.Module, inputs: dict) -> set[str]:
    """Names of the parameters that a loss does not move, but for rounding."""
    model(**inputs).sample.square().mean().backward()
    return {n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7}


@pytest.mark.parametrize("name", ["lcm", "x4", "sdxl", "unclip-h", "scale_shift"])
def test_gradients_reach_every_parameter(name):
    assert not without_gradient(*fresh(name))


def test_without_guidance_its_projection_has_no_gradient():
    model, inputs = fresh("lcm")
    del inputs["timestep_cond"]
    assert without_gradient(model, inputs) == {"time_embedding.cond_proj.weight"}


def test_one_token_of_text_leaves_its_queries_and_keys_without_gradient():
    """A softmax over one key is 1 whatever the query and key; so it is in diffusers."""
    model, inputs = fresh("linear_projection")
    inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"][:, :1]
    attended = ("attn2.to_q.weight", "attn2.to_k.weight", "norm2.weight", "norm2.bias")
    expected = {
        n for n, _ in model.named_parameters() if "transformer_blocks" in n and n.endswith(attended)
    }
    assert without_gradient(model, inputs) == expected


def test_a_few_steps_of_training_lower_the_loss():
    model, inputs = fresh("linear_projection")
    target = inputs["sample"].flip(-1)
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.02)
    losses = []
    for _ in range(5):
        loss = (model(**inputs).sample - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]


def test_a_deep_copy_is_independent():
    model, inputs = fresh("sdxl")
    before = model(**inputs).sample
    twin = copy.deepcopy(model)
    assert twin(**inputs).sample.equal(before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert model(**inputs).sample.equal(before)
    assert not twin(**inputs).sample.any()


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_channels_last_gives_the_same_numbers_and_stays_channels_last(name):
    model, inputs = fresh(name)
    expected = recorded(model, inputs)
    last = dict(memory_format=torch.channels_last)
    model, inputs["sample"] = model.to(**last), inputs["sample"].contiguous(**last)
    actual = recorded(model, inputs)
    pictures = [
        (n, t) for n, ts in actual.items() for t in ts if t.ndim == 4 and not n.endswith("attend")
    ]
    assert {"mid_block", "up_blocks.0", "down_blocks.1"} <= {n for n, _ in pictures}
    assert not [n for n, t in pictures if not t.is_contiguous(**last)]
    pairs = [p for n in expected for p in zip(actual[n], expected[n], strict=True)]
    assert all(error(a, b) <= 1e-5 for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("lcm", torch.bfloat16),
        ("x4", torch.bfloat16),
        ("sdxl", torch.bfloat16),
        ("class_timestep", torch.bfloat16),
        ("class_timestep", torch.float64),
    ],
)
def test_every_intermediate_has_the_dtype_of_the_model(name, dtype):
    model, inputs = fresh(name)
    exact = model(**inputs).sample
    model, inputs = model.to(dtype), cast(inputs, dtype)
    inputs["encoder_attention_mask"] = torch.ones(2, 5, dtype=torch.bool)
    masks = []
    for module in [m for m in model.modules() if isinstance(m, Attend)]:
        module.register_forward_hook(lambda _, args, output: masks.append(args[3]))
    seen = recorded(model, inputs)
    # Sinusoids alone are always computed in float32.
    others = {n for n, ts in seen.items() if any(t.dtype != dtype for t in ts)}
    assert others == {n for n in seen if n.endswith("time_proj")}
    assert {mask.dtype for mask in masks if mask is not None} == {model.dtype} == {dtype}
    assert error(seen[""][0].float(), exact) < 0.1


def test_what_a_hook_saw_never_changes_later():
    reference, model, inputs = case("sd15")
    seen = recorded(model, inputs)
    inputs |= controlnet(seen, 4) | adapter(seen, reference, mid=True)
    given = {n: v.clone() for n, v in inputs.items() if torch.is_tensor(v)}
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def hook(module, args, output):
        kept.extend((t, t.clone()) for t in tensors(output))

    hooks = [m.register_forward_hook(hook) for m in model.modules()]
    model(**inputs)
    for handle in hooks:
        handle.remove()
    assert len(kept) > 500
    assert all(later.equal(at_once) for later, at_once in kept)
    assert all(inputs[n].equal(v) for n, v in given.items())


def test_a_seed_makes_the_same_model_and_leaves_the_global_generator_alone():
    options = options_of("no_mid_block")
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one, two = (UNet2DConditionModel.from_config(options, seed=0) for _ in range(2))
    assert torch.random.get_rng_state().equal(before)
    other = UNet2DConditionModel.from_config(options, seed=1)
    weights = [dict(model.named_parameters()) for model in (one, two, other)]
    assert all(weights[0][n].equal(weights[1][n]) for n in weights[0])
    assert not weights[0]["conv_in.weight"].equal(weights[2]["conv_in.weight"])
    assert not one.training


def test_without_a_seed_the_global_generator_decides():
    options = options_of("no_mid_block")
    models = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        models.append(UNet2DConditionModel.from_config(options))
    one, two, other = (model.conv_in.weight for model in models)
    assert one.equal(two)
    assert not one.equal(other)


def test_it_stands_in_a_stock_pipeline(tiny_folder):
    def latents(unet):
        pipe.unet = unet
        options = dict(num_inference_steps=3, guidance_scale=4.0, output_type="latent")
        return pipe("a red circle", generator=torch.manual_seed(3), **options).images

    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    reference = randomise(pipe.unet)
    ours = ours_of(dict(reference.config), reference)
    expected = latents(reference)
    calls = []
    ours.register_forward_hook(lambda *_: calls.append(1))
    assert error(latents(ours), expected) <= 1e-5
    assert len(calls) == 3

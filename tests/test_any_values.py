"""What passes through diffusers' own UNet: values, statistics, axes, and changing them."""

import numpy as np
import pytest
import torch
from any_cases import called, inputs
from pipelines import XL, unet

import unet_explained as ux
from unet_explained.recording.nested import first

MID = "mid_block.attentions.0.transformer_blocks.0.attn2"


def test_values_and_statistics_of_any_module():
    model, seen = unet(), {}
    handles = [
        module.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out}))
        for name, module in model.named_modules()
        if name in ("mid_block", "conv_out", f"{MID}.to_q")
    ]
    called(model, inputs())
    for handle in handles:
        handle.remove()
    with ux.record(model, *seen, stats=True) as rec:
        called(model, inputs())
    for name, value in seen.items():
        assert torch.equal(rec[name][0], value)
        one = rec.stats[name][0]
        assert one.mean == pytest.approx(float(value.mean()), abs=1e-5)
        assert (one.min, one.max) == (float(value.min()), float(value.max()))


@pytest.mark.parametrize("writer", ["FreeU", "T2I-Adapter"])
def test_statistics_are_of_an_output_before_others_wrote_into_it(writer):
    model, given = unet(), inputs()
    if writer == "FreeU":
        model.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    else:
        down, bottom = torch.ones(2, 16, 8, 12), torch.ones(2, 32, 4, 6)
        given["down_intrablock_additional_residuals"] = [down, bottom]
    with ux.record(model, "*", stats=True) as rec:  # values are copied at once
        called(model, given)
    means = {name: first(rec[name][0]).mean().item() for name in rec.stats}
    assert len(means) > 100
    assert {n: one.mean for n, (one,) in rec.stats.items()} == pytest.approx(means, abs=1e-6)


def test_a_record_of_a_loop_over_numpys_timesteps_is_saved(tmp_path):
    model = unet()
    with ux.record(model, "conv_out") as rec:
        called(model, inputs() | {"timestep": np.int64(7)})
    loaded = ux.Recording.load(rec.save(tmp_path / "record"))
    again = loaded.replay(0, "conv_out", unet=model)
    assert torch.equal(again["conv_out"][0], rec["conv_out"][0])


@pytest.mark.parametrize(
    ("pattern", "on"), [("mid_block", "output"), ("conv_in", "input"), (MID, "output")]
)
def test_an_intervention_on_what_a_module_gives_or_takes(pattern, on):
    model = unet()
    module = model.get_submodule(pattern)
    if on == "output":
        handle = module.register_forward_hook(lambda m, args, out: 0.5 * out)
    else:
        handle = module.register_forward_pre_hook(lambda m, args: (0.5 * args[0], *args[1:]))
    expected = called(model, inputs())
    handle.remove()
    with ux.intervene(model, pattern, lambda x: 0.5 * x, on=on), ux.record(model, pattern) as rec:
        assert torch.equal(called(model, inputs()), expected)
    assert rec.layers
    assert not torch.equal(called(model, inputs()), expected)


def test_an_intervention_on_an_argument_by_its_name():
    model, block = unet(), "mid_block.resnets.0"
    with ux.intervene(model, block, torch.zeros_like, on="temb"), ux.record(model, block) as rec:
        called(model, inputs())
    x = {}
    resnet = model.get_submodule(block)
    handle = resnet.register_forward_pre_hook(lambda m, args: x.update(args=args))
    called(model, inputs())
    handle.remove()
    assert torch.equal(rec[block][0], resnet(x["args"][0], torch.zeros_like(x["args"][1])))


@pytest.mark.parametrize(("pattern", "on"), [("*attend", "output"), ("*attn2", "q")])
def test_what_only_our_unet_can_change_is_refused_with_the_way_to_it(pattern, on):
    with pytest.raises(ValueError, match=r"ux\.from_diffusers"):
        ux.intervene(unet(), pattern, lambda x: x, on=on)


@pytest.mark.parametrize("config", [{}, XL], ids=["sd", "xl"])
def test_axes_and_shapes_are_those_of_our_unet(config):
    theirs = unet(**config)
    ours = ux.UNet2DConditionModel.from_config(dict(theirs.config))
    found = []
    for model in (theirs, ours):
        with ux.record(model) as rec:
            called(model, inputs(config))
        found.append({call.name: call for call in rec.calls})
    shared = found[0].keys() & found[1].keys()
    assert len(shared) >= 0.9 * len(found[0])
    for name in shared:
        their, our = (calls[name].outputs[0] for calls in found)
        assert (name, their.axes, their.shape) == (name, our.axes, our.shape)

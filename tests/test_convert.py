"""To diffusers and back: shared tensors, equal outputs, files that both read."""

import diffusers
import pipelines
import pytest
import torch

import unet_explained as ux

SAMPLE, TEXT = torch.randn(2, 4, 8, 12), torch.randn(2, 77, pipelines.WIDTHS[0])


@torch.no_grad()
def test_there_and_back_the_tensors_are_the_same_ones():
    theirs = pipelines.unet()
    ours = ux.from_diffusers(theirs)
    again = ux.to_diffusers(ours)
    parameters = [dict(model.named_parameters()) for model in (theirs, ours, again)]
    assert all(p is parameters[1][name] is parameters[2][name] for name, p in parameters[0].items())
    outputs = [model(SAMPLE, 500, TEXT).sample for model in (theirs, ours, again)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    ours.conv_out.bias += 1  # of all three
    assert torch.equal(theirs(SAMPLE, 500, TEXT).sample, ours(SAMPLE, 500, TEXT).sample)
    assert not torch.equal(theirs(SAMPLE, 500, TEXT).sample, outputs[0])


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"variant": "fp16"}, {"max_shard_size": "100KB"}])
def test_what_is_saved_both_read(tmp_path, options):
    ours = ux.from_diffusers(pipelines.unet())
    ours.save_pretrained(tmp_path, **options)
    named = {"variant": "fp16"} if "variant" in options else {}
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path, **named)
    expected = ours(SAMPLE, 500, TEXT).sample
    assert torch.equal(theirs(SAMPLE, 500, TEXT).sample, expected)
    read = ux.UNet2DConditionModel.from_pretrained(tmp_path, device="cpu", dtype="float32")
    assert torch.allclose(read(SAMPLE, 500, TEXT).sample, expected, atol=1e-4)  # channels last


def test_lora_goes_on_in_diffusers_and_is_refused_on_the_way_back():
    peft = pytest.importorskip("peft")
    theirs = ux.to_diffusers(ux.from_diffusers(pipelines.unet()))
    theirs.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    with pytest.raises(ValueError, match="unload_lora_weights"):
        ux.from_diffusers(theirs)


def test_a_pipeline_has_the_table_of_its_unet():
    pipe, _ = pipelines.build("sd")
    assert str(ux.shape_table(pipe)) == str(ux.shape_table(pipe.unet))
    assert str(ux.summary(pipe)) == str(ux.summary(pipe.unet))


def test_what_is_no_unet_is_refused():
    with pytest.raises(TypeError, match="got Linear"):
        ux.from_diffusers(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match=r"this package.s UNet2DConditionModel, got diffusers"):
        ux.to_diffusers(pipelines.unet())

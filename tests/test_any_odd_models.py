"""Models and pipelines that are not quite what one expects."""

import copy
import pickle

import diffusers
import pytest
import torch
from pipelines import FISH, RED, build, run, text_encoder

import unet_explained as ux
from unet_explained.recording.nested import is_on


def unconditional() -> diffusers.UNet2DModel:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        num_class_embeds=5, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip


@torch.no_grad()
def test_a_unet_without_texts_whose_third_argument_is_another():
    model, given = unconditional(), (torch.ones(2, 3, 8, 8), 7, torch.tensor([1, 2]))
    expected = model(*given).sample
    with ux.record(model, "conv_out", self_attention=True) as rec:
        assert torch.equal(model(*given).sample, expected)
    assert torch.equal(rec.given(0)["class_labels"], given[2])
    assert torch.equal(rec.replay(0, "conv_out")["conv_out"][0], rec["conv_out"][0])
    maps = rec.self_attention(layer="mid_block.attentions.0", picture=0)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(4, 4))
    assert "batch 2, latents 8x8, float32" in str(rec.shapes)


def test_frames_have_a_table_of_shapes():
    pipe, options = build("animate")
    with ux.record(pipe) as rec:
        run(pipe, RED, **options)
    assert "batch 2, latents 8x8, 77 tokens" in str(rec.shapes)


def skipping(pipe) -> None:
    """The mid block leaves every second call out, as a cache of features makes it."""
    calls, forward = [], pipe.unet.mid_block.forward

    def sometimes(x, *args, **kwargs):
        calls.append(None)
        return forward(x, *args, **kwargs) if len(calls) % 2 else x

    pipe.unet.mid_block.forward = sometimes


def test_layers_that_are_left_out_at_some_steps():
    pipe, options = build("sd")
    skipping(pipe)
    with ux.record(pipe, self_attention=True) as rec:
        run(pipe, RED, **options)
    lines = rec.to_pandas()
    left_out = lines.layer.str.startswith("mid_block")
    assert set(lines[left_out].step) == {0}
    assert set(lines[~left_out].step) == {0, 1}
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1"
    assert torch.equal(rec.self_attention(layer=layer), rec.self_attention(layer=layer, step=0))
    with pytest.raises(ValueError, match="not called in it"):
        rec.self_attention(layer=layer, step=1)


def test_copies_and_pickles_of_a_recorded_pipeline_are_of_its_class():
    pipe, options = build("sd")
    # transformers leaves hooks that cannot be pickled on an encoder once asked for all its states.
    pipe.text_encoder = text_encoder.__wrapped__()
    kind = type(pipe)
    with ux.record(pipe) as rec:
        copies = [copy.copy(pipe), copy.deepcopy(pipe), pickle.loads(pickle.dumps(pipe))]
        assert [type(one) for one in copies] == [kind] * 3
        for one in copies[1:]:
            one.set_progress_bar_config(disable=True)
            run(one, FISH, **options)
        assert not rec.runs
        expected = run(pipe, RED, **options)
    assert torch.equal(run(copies[2], RED, **options), expected)
    assert len(rec.runs) == 1


@pytest.mark.parametrize("wrong", [{"prompt": 5}, {"prompt": None}])
def test_a_wrong_call_fails_as_it_would_unrecorded(wrong):
    pipe, options = build("sd")
    kinds = []
    for _ in range(2):
        with pytest.raises((TypeError, ValueError)) as raised:
            pipe(**{"prompt": RED} | wrong, **options)
        kinds.append(type(raised.value))
        recorded = ux.record(pipe)
        recorded.__enter__()
    recorded.__exit__()
    assert kinds[0] is kinds[1]


@pytest.mark.parametrize("loaded", [False, True])
def test_a_forward_again_runs_under_the_autocast_of_then(loaded, tmp_path):
    pipe, options = build("sd")
    with torch.autocast("cpu", torch.bfloat16), ux.record(pipe, "conv_out") as rec:
        run(pipe, RED, **options)
    if loaded:
        rec = ux.Recording.load(rec.save(tmp_path / "record"))
    again = rec.replay(0, "conv_out", unet=pipe.unet)["conv_out"][0]
    assert again.dtype == torch.bfloat16
    assert torch.equal(again, rec["conv_out"][0])
    plain, options = build("sd")
    with ux.record(plain, "conv_out") as rec:
        run(plain, RED, **options)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rec.replay(0, "conv_out")["conv_out"][0], rec["conv_out"][0])


def test_a_second_gpu_is_another_place():
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    assert is_on(first, torch.device("cuda"))
    assert is_on(first, first)
    assert not is_on(first, second)
    assert not is_on(torch.device("cpu"), torch.device("cuda"))

"""Models, attentions and pipelines that are not quite what one expects."""

import copy
import pickle

import diffusers
import pytest
import torch
from any_cases import called, inputs
from kernels import Kernels
from pipelines import FISH, RED, build, run, text_encoder, unet

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


class FirstPicture(diffusers.models.attention_processor.AttnProcessor2_0):
    """All pictures look at the keys of the first: with one picture, it is as any other."""

    __module__ = "diffusers.models"

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, *args, **kwargs):
        if encoder_hidden_states is not None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        k, v = (part[:1].expand_as(part) for part in (k, v))
        split = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(*split)
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


@torch.no_grad()
def test_a_proof_of_one_picture_is_none_of_two():
    model = unet()
    model.set_attn_processor(FirstPicture())
    one, two = inputs(batch=1), inputs(batch=2)
    with ux.record(model, self_attention=True) as rec:
        called(model, one)
        assert not rec.failed
        called(model, two)
    assert {name.rpartition(".")[2] for name in rec.failed} == {"attn1"}


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:the UNet's output is not finite")
@pytest.mark.parametrize("lost", [slice(None), slice(2, None)], ids=["all", "a row"])
def test_what_is_not_finite_proves_nothing(lost):
    model, given = unet(), inputs(batch=3)
    model.set_attn_processor(FirstPicture())
    given["sample"][lost] = torch.nan
    with ux.record(model, self_attention=True) as rec:
        called(model, given)
        called(model, inputs(batch=3))
    assert {name.rpartition(".")[2] for name in rec.failed} == {"attn1"}
    assert not [one for one in rec.unknown if "never finite" in one]


@pytest.mark.filterwarnings("ignore:the UNet's output is not finite")
def test_what_could_not_be_proved_is_said_until_a_later_forward_proves_it(tmp_path):
    model, given = unet(), inputs()
    with ux.record(model) as rec:
        called(model, given | {"sample": torch.full_like(given["sample"], torch.nan)})
        (layer, *_), doubts = rec.layers, [one for one in rec.unknown if "never finite" in one]
        assert len(doubts) == len(rec.layers)
        assert layer in doubts[0]
        assert ux.Recording.load(rec.save(tmp_path / "record")).unknown == rec.unknown
        called(model, given)
    assert not [one for one in rec.unknown if "never finite" in one]
    assert rec.weights(layer, step=0, picture=0).isnan().all()
    assert rec.weights(layer, step=1, picture=0).isfinite().all()


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


class Plain(torch.nn.Module):
    """An attention of the layout alone: another name for what it is given, one layer for to_out."""

    def __init__(self, attention) -> None:
        super().__init__()
        self.heads, self.to_q = attention.heads, attention.to_q
        self.to_k, self.to_v, self.to_out = attention.to_k, attention.to_v, attention.to_out[0]

    def forward(self, x, context):
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        split = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(*split)
        return self.to_out(out.transpose(1, 2).flatten(2))


@torch.no_grad()
def test_an_attention_of_somebodys_own_is_mapped_or_named_and_never_in_the_way():
    model, given = unet(), inputs()
    block = model.mid_block.attentions[0].transformer_blocks[0]
    own = Plain(block.attn2)

    def forward(hidden_states, encoder_hidden_states=None, **kwargs):
        return own(x=hidden_states, context=encoder_hidden_states)

    wrapped = torch.nn.Module()
    wrapped.own, wrapped.forward = own, forward
    expected = called(model, given)
    block.attn2 = wrapped
    with Kernels(model) as truth, ux.record(model, self_attention=True) as rec:
        torch.testing.assert_close(called(model, given), expected)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.own"
    assert name in rec.layers or name in rec.failed
    for layer in truth.layers:
        actual = rec.weights(layer, picture=1)
        torch.testing.assert_close(actual.double(), truth.mean(0, layer, 1), atol=2e-3, rtol=0)


class Named(Plain):
    """The same, of the usual names, and with no processor either."""

    def forward(self, hidden_states, encoder_hidden_states=None, **kwargs):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        return super().forward(hidden_states, context)


@torch.no_grad()
def test_attentions_without_a_processor_are_mapped_and_run_again():
    model, given = unet(), inputs()
    with Kernels(model) as truth:
        called(model, given)
    block = model.mid_block.attentions[0].transformer_blocks[0]
    block.attn1, block.attn2 = Named(block.attn1), Named(block.attn2)
    expected = called(model, given)
    with ux.record(model, "conv_out", self_attention=True) as rec:
        assert torch.equal(called(model, given), expected)
    assert not rec.failed
    assert "mid_block.attentions.0.transformer_blocks.0.attn2" in rec.layers
    for layer in rec.layers:
        actual = rec.weights(layer, picture=1)
        torch.testing.assert_close(actual.double(), truth.mean(0, layer, 1), atol=2e-3, rtol=0)
    maps = rec.self_attention(layer="mid_block*", picture=0)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(4, 6))
    assert torch.equal(rec.replay(0, "conv_out")["conv_out"][0], expected)


@torch.no_grad()
@pytest.mark.parametrize("ours", [True, False])
def test_an_attention_that_is_called_twice_in_a_forward_has_two_maps(ours):
    model = ux.from_diffusers(unet()) if ours else unet()
    name = "mid_block.attentions.0.transformer_blocks.0.attn2"
    attention, inside = model.get_submodule(name), []

    def before(module, args, kwargs):
        if not inside:
            inside.append(True)
            module(3 * args[0], *args[1:], **kwargs)
            inside.clear()

    attention.register_forward_pre_hook(before, with_kwargs=True)
    with ux.record(model) as rec:
        called(model, inputs())
    maps = [rec.weights(one, picture=0) for one in (name, f"{name}#2")]
    assert not torch.equal(*maps)
    assert all(torch.allclose(one.sum(dim=1), torch.ones(len(one)), atol=1e-3) for one in maps)

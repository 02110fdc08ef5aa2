"""Attentions that are somebody's own: each has maps that are proved, or is named."""

import diffusers
import pytest
import torch
from any_cases import called, inputs
from kernels import Kernels
from pipelines import unet

import unet_explained as ux


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


class Grouped(Plain):
    """All heads have the keys and values of the first."""

    def forward(self, hidden_states, encoder_hidden_states, **kwargs):
        width = self.to_q.out_features // self.heads
        k, v = (part(encoder_hidden_states)[..., :width] for part in (self.to_k, self.to_v))
        q = self.to_q(hidden_states).unflatten(-1, (self.heads, width)).transpose(1, 2)
        out = torch.nn.functional.scaled_dot_product_attention(q, k[:, None], v[:, None])
        return self.to_out(out.transpose(1, 2).flatten(2))


@torch.no_grad()
@pytest.mark.parametrize(("more", "why"), [(0, "8 channels a head, its keys 2"), (1, "do not fit")])
def test_an_attention_whose_heads_share_keys_is_named(more, why):
    model, given = unet(), inputs()
    block = model.mid_block.attentions[0].transformer_blocks[0]
    block.attn2 = Grouped(block.attn2)
    width = block.attn2.to_q.out_features // block.attn2.heads
    for name in ("to_k", "to_v"):
        wide = getattr(block.attn2, name)
        setattr(block.attn2, name, torch.nn.Linear(wide.in_features, width + more, bias=False))
    expected = called(model, given)
    with ux.record(model) as rec:
        assert torch.equal(called(model, given), expected)
    ((name, said),) = rec.failed.items()
    assert name == "mid_block.attentions.0.transformer_blocks.0.attn2"
    assert why in said
    assert name not in rec.layers


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

"""The parity check has teeth: each classic mistake, made on purpose, is found."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from model_reference import (
    CROSS,
    NARROW,
    assert_recorded,
    inputs_of,
    ours_of,
    recorded,
    reference_of,
)
from torch import nn

from unet_explained.model import attention, blocks, embeddings, resnet

# Levels of equal width, so that skips fit in any order and only their numbers tell.
OPTIONS = NARROW | CROSS | dict(block_out_channels=[32, 32], layers_per_block=1)


@pytest.fixture(scope="module")
def reference():
    model = reference_of(OPTIONS)
    return model, recorded(model, inputs_of(OPTIONS))


def parts(model: nn.Module, kind: type) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


def norms_swapped(ours, patch):
    for block in parts(ours, attention.BasicTransformerBlock):
        block.norm1, block.norm3 = block.norm3, block.norm1


def groupnorm_eps_in_transformers(ours, patch):
    for transformer in parts(ours, attention.Transformer2DModel):
        assert transformer.norm.eps == 1e-6
        transformer.norm.eps = 1e-5


def groupnorm_eps_in_resnets(ours, patch):
    for block in parts(ours, resnet.ResnetBlock2D):
        assert block.norm1.eps == block.norm2.eps == 1e-5
        block.norm1.eps = block.norm2.eps = 1e-6


def groupnorm_eps_at_the_end(ours, patch):
    assert ours.conv_norm_out.eps == 1e-5
    ours.conv_norm_out.eps = 1e-6


def layernorm_eps(ours, patch):
    for norm in parts(ours, nn.LayerNorm):
        assert norm.eps == 1e-5
        norm.eps = 1e-6


def gelu_by_tanh(ours, patch):
    exact = F.gelu
    patch.setattr(F, "gelu", lambda x: exact(x, approximate="tanh"))


def geglu_halves_swapped(ours, patch):
    def forward(self, hidden_states):
        gate, value = self.proj(hidden_states).chunk(2, dim=-1)
        return value * F.gelu(gate)

    patch.setattr(attention.GEGLU, "forward", forward)


def head_and_channel_swapped(ours, patch):
    def other(tensor, pattern, **sizes):
        return rearrange(tensor, pattern.replace("(head head_dim)", "(head_dim head)"), **sizes)

    patch.setattr(attention, "rearrange", other)


def head_size_for_number_of_heads(ours, patch):
    for layer in parts(ours, attention.Attention):
        assert layer.heads**2 != layer.to_q.out_features
        layer.heads = layer.to_q.out_features // layer.heads


def key_and_value_swapped(ours, patch):
    for layer in parts(ours, attention.Attention):
        layer.attend.register_forward_pre_hook(lambda _, args: (args[0], args[2], args[1], args[3]))


def skips_first_in_first_out(ours, patch):
    forward = blocks.UpBlock2D.forward

    def other(self, hidden_states, skips, *rest):
        return forward(self, hidden_states, skips[::-1], *rest)

    patch.setattr(blocks.UpBlock2D, "forward", other)


def skip_before_hidden(ours, patch):
    for block in parts(ours.up_blocks, resnet.ResnetBlock2D):
        block.register_forward_pre_hook(
            lambda _, args: (torch.cat(args[0].chunk(2, dim=1)[::-1], dim=1), args[1])
        )


def sines_before_cosines(ours, patch):
    ours.time_proj = embeddings.Timesteps(32, flip_sin_to_cos=False, freq_shift=0)


def time_shift_forgotten(ours, patch):
    patch.setattr(resnet.TimeShift, "forward", lambda self, time: 0 * time[..., None, None])


MUTANTS = [
    norms_swapped,
    groupnorm_eps_in_transformers,
    groupnorm_eps_in_resnets,
    groupnorm_eps_at_the_end,
    layernorm_eps,
    gelu_by_tanh,
    geglu_halves_swapped,
    head_and_channel_swapped,
    head_size_for_number_of_heads,
    key_and_value_swapped,
    skips_first_in_first_out,
    skip_before_hidden,
    sines_before_cosines,
    time_shift_forgotten,
]


def test_without_a_mistake_nothing_is_found(reference):
    model, expected = reference
    assert_recorded(expected, model, ours_of(OPTIONS, model), inputs_of(OPTIONS))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mistake_is_found(mutant, reference, monkeypatch):
    model, expected = reference
    ours, inputs = ours_of(OPTIONS, model), inputs_of(OPTIONS)
    mutant(ours, monkeypatch)
    with pytest.raises(AssertionError, match="outputs differ"):
        assert_recorded(expected, model, ours, inputs)


def test_a_module_that_was_not_called_is_found(reference):
    model, expected = reference
    ours = ours_of(OPTIONS, model)
    del ours.conv_act
    ours.conv_act = F.silu  # the same numbers, but no module of that name
    with pytest.raises(AssertionError, match=r"not called.*conv_act"):
        assert_recorded(expected, model, ours, inputs_of(OPTIONS))

"""diffusers' own UNet, recorded: the same output to the last bit, and the weights it really used.

Those are seen in the kernels themselves (kernels.py), in a run of their own without a recorder.
"""

import re

import diffusers
import pytest
import torch
import torch.nn.functional as F
from any_cases import CASES, TOKENS, called, fused, inputs, ip, lora
from kernels import Kernels
from pipelines import sharpened, unet

import unet_explained as ux

pytestmark = pytest.mark.slow  # many small runs: half a minute and more together

FLOAT16, FLOAT32 = 2e-3, 1e-5  # how a weight is kept
MID = "mid_block.attentions.0.transformer_blocks.0.attn2"


def seen(case):
    """The output, and what its kernels did, without a recorder."""
    model, given = case.build()
    with case.around(), Kernels(model) as truth:
        return called(model, given), truth


@pytest.mark.parametrize("name", CASES)
def test_the_output_is_the_same_and_every_head_of_every_map_is_what_the_kernel_used(name):
    expected, truth = seen(CASES[name])
    model, given = CASES[name].build()
    with CASES[name].around(), ux.record(model, attention="heads") as rec:
        assert torch.equal(called(model, given), expected)
    assert not doubted(rec)
    assert rec.layers == truth.sizes
    assert len(rec.layers) >= 4
    for layer in truth.layers:
        text, *images = truth.forwards[0][layer]
        text = text[..., :TOKENS]  # of added keys: the pixels', which are no words, come after them
        assert text.max() > 0.2, "the layer looks nowhere in particular: this proves little"
        for row, head in [(row, head) for row in (0, 1) for head in range(text.shape[1])]:
            chosen = dict(picture=row, head=head)
            near(rec.weights(layer, **chosen), text[row, head], FLOAT16)
            for number, image in enumerate(images, CASES[name].silent):
                weights = rec.weights(layer, image_prompt=number, **chosen)
                near(weights, image[row, head], FLOAT16)
        with pytest.raises((ValueError, IndexError)):
            rec.weights(layer, image_prompt=len(images) + CASES[name].silent, picture=0)


@pytest.mark.parametrize("name", CASES)
def test_the_means_that_are_kept_in_float32(name):
    _, truth = seen(CASES[name])
    model, given = CASES[name].build()
    with CASES[name].around(), ux.record(model, attention="sum") as rec:
        called(model, given)
    for layer in truth.layers:
        for row in (0, 1):
            expected = truth.mean(0, layer, row)[:, :TOKENS]
            near(rec.weights(layer, picture=row), expected, FLOAT32)


def doubted(rec) -> list[str]:
    """What it says not to know of any layer; that nobody said what the texts are is true here."""
    return [sentence for sentence in rec.unknown if "attentions." in sentence]


def near(weights, expected, tolerance: float) -> None:
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.slow
def test_the_compiled_model_computes_the_same_within_rounding():
    expected, truth = seen(CASES["sdpa"])
    model, given = CASES["sdpa"].build()
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(called(compiled, given), expected, atol=1e-4, rtol=1e-4)
    with ux.record(compiled, attention="heads") as rec:
        torch.testing.assert_close(called(compiled, given), expected, atol=1e-4, rtol=1e-4)
    assert rec.layers == truth.sizes
    for layer in truth.layers:
        near(rec.weights(layer, picture=1), truth.mean(0, layer, 1), FLOAT16)


class Custom:
    """Somebody's processor: it changes queries, keys or values after their projections."""

    def __init__(self, change) -> None:
        self.change = change

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **kwargs):
        projected = (
            attn.to_q(hidden_states),
            *(project(encoder_hidden_states) for project in (attn.to_k, attn.to_v)),
        )
        heads = [x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in projected]
        x = F.scaled_dot_product_attention(*self.change(*heads))
        return attn.to_out[0](x.transpose(1, 2).flatten(-2))


WRONG = {
    "sharper": lambda q, k, v: (1.5 * q, k, v),
    "heads swapped": lambda q, k, v: (q.flip(1), k, v),
    "half of the keys": lambda q, k, v: (q, k[:, :, ::2], v[:, :, ::2]),
    "keys in another order": lambda q, k, v: (q, k.flip(2), v),
    "rows of the batch swapped": lambda q, k, v: (q, k.flip(0), v.flip(0)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_layer_whose_weights_are_not_what_it_seems_is_named_and_gives_no_map(name):
    model = unet()
    model.get_submodule(MID).set_processor(Custom(WRONG[name]))
    expected = called(model, inputs())
    with Kernels(model) as truth:
        called(model, inputs())
    with ux.record(model, attention="heads") as rec:
        assert torch.equal(called(model, inputs()), expected)
    assert MID not in rec.layers
    assert [MID in sentence for sentence in doubted(rec)] == [True]
    for read in (rec.weights, lambda layer, **row: rec.attention(token=1, layer=layer, **row)):
        with pytest.raises(ValueError, match=re.escape(MID)):
            read(MID, picture=0)
    assert list(rec.layers) == [layer for layer in truth.layers if layer != MID]
    for layer in rec.layers:
        near(rec.weights(layer, picture=1), truth.mean(0, layer, 1), FLOAT16)


def test_where_no_layer_is_what_it_seems_the_question_is_answered_by_why():
    model = unet()
    crosses = [name for name in model.attn_processors if "attn2" in name]
    sharper = {name: Custom(WRONG["sharper"]) for name in crosses}
    model.set_attn_processor(model.attn_processors | sharper)
    with ux.record(model) as rec:
        called(model, inputs())
    assert not rec.layers
    for layer in (None, "mid_block*"):
        why = "there is no map of .*weights times its values.*" + "rec.unknown" * (layer is None)
        with pytest.raises(ValueError, match=why):
            rec.attention(token=1, layer=layer, picture=0)


def test_a_processor_that_nobody_knows_and_that_attends_as_usual_is_recorded():
    model = unet()
    model.get_submodule(MID).set_processor(Custom(lambda *parts: parts))
    with Kernels(model) as truth:
        called(model, inputs())
    with ux.record(model) as rec:
        called(model, inputs())
    assert MID in rec.layers
    assert not doubted(rec)
    near(rec.weights(MID, picture=0), truth.mean(0, MID, 0), FLOAT16)


def test_another_processor_of_the_same_class_is_not_taken_on_trust():
    model = unet()
    with ux.record(model) as rec:
        for change in (lambda *parts: parts, WRONG["sharper"]):
            model.get_submodule(MID).set_processor(Custom(change))
            called(model, inputs())
    assert [MID in sentence for sentence in doubted(rec)] == [True]
    with pytest.raises(ValueError, match=re.escape(MID)):
        rec.weights(MID, picture=0, step=1)


def unfuse(model) -> None:
    model.unfuse_qkv_projections()


def unload(model) -> None:
    model.delete_adapters("default")


CHANGES = {
    "lora loaded": (None, lora),
    "lora deleted": (lora, unload),
    "fused": (None, fused),
    "unfused": (fused, unfuse),
    "ip-adapter loaded": (None, ip(0.5)),
    "another processor": (None, CASES["eager"].prepare),
}


@pytest.mark.parametrize("name", CHANGES)
def test_modules_that_change_within_the_with(name):
    before, change = CHANGES[name]

    def twice(model) -> list[torch.Tensor]:
        first = called(model, inputs())
        return [first, called(model, inputs() | (change(model) or {}))]

    models = [unet(), unet()]
    for model in models:
        if before:
            before(model)
    with Kernels(models[0]) as truth:
        expected = twice(models[0])
    with ux.record(models[1], attention="heads") as rec:
        outputs = twice(models[1])
    assert all(map(torch.equal, outputs, expected))
    assert not doubted(rec)
    for step in (0, 1):
        for layer in truth.layers:
            for softmax, weights in enumerate(truth.forwards[step][layer]):
                image = {} if softmax == 0 else {"image_prompt": softmax - 1}
                actual = rec.weights(layer, step=step, picture=1, **image)
                near(actual, weights[1].mean(dim=0), FLOAT16)


def test_a_list_that_the_unet_takes_from_is_its_callers_and_can_be_replayed():
    residuals = [torch.randn(2, 16, 8, 12), torch.randn(2, 32, 4, 6)]
    lists = [list(residuals), list(residuals)]
    key, model = "down_intrablock_additional_residuals", unet()
    expected = called(model, inputs() | {key: lists[0]})
    with ux.record(model, "conv_out") as rec:
        assert torch.equal(called(model, inputs() | {key: lists[1]}), expected)
    assert len(lists[0]) == len(lists[1])
    assert torch.equal(rec.replay(0, "conv_out")["conv_out"][0], expected)


def test_a_training_step_that_runs_parts_of_the_forward_again():
    gradients, records = [], []
    for watch in (Kernels, lambda model: ux.record(model, attention="heads")):
        model = unet().requires_grad_(True).train()
        model.enable_gradient_checkpointing()
        with watch(model) as seen:
            model(**inputs()).sample.square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        records.append(seen)
    assert all(map(torch.equal, *gradients))
    truth, rec = records
    assert len(rec.runs[0].steps) == 1
    for layer in truth.layers:
        expected = truth.forwards[0][layer][0][1].mean(dim=0)
        near(rec.weights(layer, picture=1), expected, FLOAT16)


@pytest.mark.slow
def test_all_of_stable_diffusions_topology(tiny_config):
    torch.manual_seed(0)
    model = sharpened(diffusers.UNet2DConditionModel(**tiny_config))
    with Kernels(model) as truth:
        expected = called(model, inputs())
    with ux.record(model, attention="heads") as rec:
        assert torch.equal(called(model, inputs()), expected)
    assert rec.layers == truth.sizes
    assert len(rec.layers) == 16
    for layer in truth.layers:
        near(rec.weights(layer, picture=0), truth.mean(0, layer, 0), FLOAT16)

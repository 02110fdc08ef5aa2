"""Inputs: what does not fit is refused by its name before any computation, what fits is taken."""

import re
import warnings
from typing import NamedTuple

import numpy as np
import pipelines
import pytest
import torch
from model_reference import case, error
from torch import Tensor, tensor, zeros
from torch.nn.modules.module import register_module_forward_pre_hook

import unet_explained as ux
from unet_explained.__main__ import main
from unet_explained.recording import Recording
from unet_explained.run.denoise import Pipeline
from unet_explained.run.steps import Run
from unet_explained.run.text import read_prompt

REFUSALS = (ValueError, TypeError, KeyError, IndexError, FileNotFoundError)


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_users_see_it")]


def refused(call, message: str) -> None:
    """It raises such an error in a short sentence, in our own code, before a module computes."""
    ran = []

    def computes(module, args) -> None:
        if not any(isinstance(x, Tensor) and x.is_meta for x in args):  # a trace of shapes
            ran.append(type(module).__name__)

    hook = register_module_forward_pre_hook(computes)
    try:
        with pytest.raises(REFUSALS, match=message) as refusal:
            call()
    finally:
        hook.remove()
    assert set(ran) <= {"UNet2DConditionModel"}, "refused only after work had begun"
    where, said = str(refusal.traceback[-1].path), str(refusal.value)
    missing = isinstance(refusal.value, FileNotFoundError)  # in whichever words
    assert missing or "unet_explained" in where, f"it was {where} that refused"
    assert len(said) < 500
    assert said.isprintable()


def short(value) -> str:
    """A value as the name of a test."""
    if isinstance(value, Tensor):
        other = [str(x) for x in (value.dtype, value.device) if x not in (torch.float32, CPU)]
        return "-".join([str(tuple(value.shape)), *other])
    return value if isinstance(value, str) else f"{type(value).__name__} {str(value)[:20]}"


# 1. UNet.forward: (model, argument, a value that does not fit, what the message says of it).
# A tensor's shape is said in any case; what the model expects, where it stands here.
CPU, META = torch.device("cpu"), dict(device="meta")
SAMPLE, TEXT, MASK = "sample", "encoder_hidden_states", "encoder_attention_mask"
LABELS, GUIDANCE, ADDED = "class_labels", "timestep_cond", "added_cond_kwargs"
CROSS, LOW = "cross_attention_kwargs", "heads_that_fit_where_there_is_attention"
ELSEWHERE, WIDE = "on meta.* on cpu", "float32.*float64"

FORWARD = [
    ("sd15", SAMPLE, None, "a tensor.*None"),
    ("sd15", SAMPLE, np.zeros((2, 4, 16, 16)), "a tensor.*ndarray.*torch.from_numpy"),
    ("sd15", SAMPLE, [[0.0]], "a tensor.*list"),
    ("sd15", SAMPLE, zeros(4, 16, 16), "4, height, width"),
    ("sd15", SAMPLE, zeros(2, 4, 1, 16, 16), "4, height, width"),
    ("sd15", SAMPLE, zeros(2, 16, 16, 4), "4, height, width"),
    ("sd15", SAMPLE, zeros(0, 4, 16, 16), ""),
    ("sd15", SAMPLE, zeros(2, 4, 0, 16), ""),
    ("sd15", SAMPLE, zeros(2, 4, 16, 0), ""),
    ("padding_0", SAMPLE, zeros(2, 4, 1, 8), "2 or more"),  # it cannot be halved
    ("sd15", SAMPLE, zeros(2, 4, 16, 16).double(), WIDE),
    ("sd15", SAMPLE, zeros(2, 4, 16, 16).long(), "float32.*int64"),
    ("sd15", SAMPLE, zeros(2, 4, 16, 16, **META), "on cpu.*on meta|on meta.* on cpu"),
    ("sd15", "timestep", None, "None"),
    ("sd15", "timestep", "5", "str"),
    ("sd15", "timestep", [5, 6], "list"),
    ("sd15", "timestep", [5, 6, 7], "list"),
    ("sd15", "timestep", np.array([5, 6]), "ndarray"),
    ("sd15", "timestep", 5j, "complex"),
    ("sd15", "timestep", tensor(5j), "complex64"),
    ("sd15", "timestep", tensor([5, 6, 7]), "2 samples, got 3"),
    ("sd15", "timestep", zeros(0), "2 samples, got 0"),
    ("sd15", "timestep", zeros(2, 1), ""),
    ("sd15", "timestep", zeros((), **META), "meta"),
    ("sd15", TEXT, None, "a tensor.*None"),
    ("sd15", TEXT, np.zeros((2, 5, 24)), "a tensor.*ndarray.*torch.from_numpy"),
    ("sd15", TEXT, (zeros(2, 5, 24), [zeros(2, 1, 4, 24)]), "a tensor.*tuple"),  # of an IP-Adapter
    ("sd15", TEXT, zeros(2, 24), r"\(2, tokens, 24\)"),
    ("sd15", TEXT, zeros(2, 1, 5, 24), r"\(2, tokens, 24\)"),
    ("sd15", TEXT, zeros(2, 5, 32), r"\(2, tokens, 24\)"),
    ("sd15", TEXT, zeros(1, 5, 24), r"\(2, tokens, 24\)"),
    ("sd15", TEXT, zeros(2, 5, 24).double(), WIDE),
    ("sd15", TEXT, zeros(2, 5, 24, **META), ELSEWHERE),
    ("sd15", MASK, np.ones((2, 5)), "a tensor.*ndarray"),
    ("sd15", MASK, [[1] * 5] * 2, "a tensor.*list"),
    ("sd15", MASK, zeros(5), r"\(2, 5\)"),
    ("sd15", MASK, zeros(2, 5, **META), ELSEWHERE),
    ("sd15", MASK, zeros(2, 5, dtype=torch.complex64), "complex64"),
    (LOW, "attention_mask", zeros(1, 64), r"\(2, 64\)"),
    (LOW, "attention_mask", zeros(2, 1, 8, 8), r"\(2, 64\)"),
    (LOW, "attention_mask", zeros(2, 256), r"\(2, 64\)"),
    ("class_table", LABELS, [1, 2], "a tensor.*list"),
    ("class_table", LABELS, 3, "a tensor.*int"),
    ("class_table", LABELS, tensor([1, 2, 3]), r"\(2,\)"),
    ("class_table", LABELS, tensor([[1], [2]]), r"\(2,\)"),
    ("class_table", LABELS, tensor([1.0, 2.0]), "whole numbers.*float32"),
    ("class_table", LABELS, tensor([1, 7]), "0 to 6, got 7"),
    ("class_table", LABELS, tensor([-1, 1]), "0 to 6, got -1"),
    ("class_table", LABELS, zeros(2, dtype=torch.long, **META), ELSEWHERE),
    ("class_timestep", LABELS, tensor(3), r"\(2,\)"),
    ("class_timestep", LABELS, zeros(2, 1), r"\(2,\)"),
    ("class_projection", LABELS, zeros(2, 19), r"\(2, 20\)"),
    ("class_projection", LABELS, zeros(2, 20).double(), WIDE),
    ("class_simple_projection", LABELS, tensor([1, 2]), r"\(2, 20\)"),
    ("class_identity", LABELS, zeros(2, 63), r"\(2, 64\)"),
    ("class_identity", LABELS, zeros(3, 64), r"\(2, 64\)"),
    ("lcm", GUIDANCE, 7.5, "a tensor.*float"),
    ("lcm", GUIDANCE, zeros(2, 256), r"\(2, 12\)"),
    ("lcm", GUIDANCE, zeros(3, 12), r"\(2, 12\)"),
    ("lcm", GUIDANCE, zeros(2, 1, 12), r"\(2, 12\)"),
    ("lcm", GUIDANCE, zeros(2, 12).double(), WIDE),
    ("lcm", GUIDANCE, zeros(2, 12, **META), ELSEWHERE),
    ("sdxl", ADDED, [zeros(2, 20), zeros(2, 6)], "dict.*list"),
    ("sdxl", ADDED, dict(text_embeds=zeros(2, 20), time_id=zeros(2, 6)), "time_id.*time_ids"),
    ("sd15", ADDED, dict(image_embeds=[zeros(2, 1, 8)]), "image_embeds"),
    ("sd15", ADDED, dict(text_embeds=zeros(2, 20), time_ids=zeros(2, 6)), "text_embeds.*time_ids"),
    ("sd15", CROSS, {"scale": 0.5}, "scale"),
    ("sd15", CROSS, {"ip_adapter_masks": []}, "ip_adapter_masks"),
    ("sd15", CROSS, 0.5, "dict.*float"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "name", "value", "message"), FORWARD, ids=short)
def test_what_does_not_fit_forward_is_refused_by_name(model, name, value, message):
    _, ours, inputs = case(model)
    refused(lambda: ours(**inputs | {name: value}), f"^{name}: .*{message}")
    if isinstance(value, Tensor) and not re.search("float|complex|meta|got", message):
        refused(lambda: ours(**inputs | {name: value}), re.escape(str(tuple(value.shape))))


CONDITIONS = [
    ("text_embeds", None, "needs.*text_embeds"),
    ("text_embeds", zeros(2, 21), r"68 together.*\(2, 21\) and \(2, 6\)"),
    ("text_embeds", zeros(3, 20), r"text_embeds.*\(2, pooled\).*\(3, 20\)"),
    ("text_embeds", zeros(2, 1, 20), r"text_embeds.*\(2, pooled\).*\(2, 1, 20\)"),
    ("text_embeds", zeros(2, 20, **META), f"text_embeds.*{ELSEWHERE}"),
    ("time_ids", [[0] * 6] * 2, "time_ids.*a tensor.*list"),
    ("time_ids", zeros(2, 5), r"68 together.*\(2, 20\) and \(2, 5\)"),
    ("time_ids", zeros(11), r"68 together.*\(2, 20\) and \(11,\)"),
    ("time_ids", zeros(1, 6), r"time_ids.*\(2, ids\).*\(1, 6\)"),
    ("time_ids", zeros(6, 2), r"time_ids.*\(2, ids\).*\(6, 2\)"),  # as many numbers, misread
    ("time_ids", zeros(2, 6, **META), f"time_ids.*{ELSEWHERE}"),
    ("image_embeds", [zeros(2, 1, 8)], "nothing uses.*image_embeds"),
]


@pytest.mark.parametrize(("name", "value", "message"), CONDITIONS, ids=short)
def test_sdxls_conditions_that_do_not_fit_are_refused_by_name(name, value, message):
    _, ours, inputs = case("sdxl")
    inputs[ADDED] = inputs[ADDED] | {name: value}
    refused(lambda: ours(**inputs), f"^{ADDED}.*{message}")


# Channels and sides of each skip of "sd15" at 16 x 16, and of what an adapter adds to.
SKIPS = [(16, 16)] * 3 + [(16, 8)] + [(32, 8)] * 2 + [(32, 4)] + [(64, 4)] * 2 + [(64, 2)] * 3
PLACES = [(16, 16), (32, 8), (64, 4), (64, 2), (64, 2)]  # the last in the mid block
DOWN, INSIDE = "down_block_additional_residuals", "down_intrablock_additional_residuals"
MID = "mid_block_additional_residual"


def residuals() -> dict:
    """All that there may be, and fit."""
    control, adapter = ([zeros(2, n, s, s) for n, s in places] for places in (SKIPS, PLACES))
    return {DOWN: control, MID: zeros(2, 64, 2, 2), INSIDE: adapter}


def other_sides(number: int, places: list) -> Tensor:
    channels, side = places[number]
    return zeros(2, channels, side + 1, side + 1)


RESIDUALS = [
    *((DOWN, n, other_sides(n, SKIPS), r"\(2, {}, {}, {}\)".format(*SKIPS[n], SKIPS[n][1]))
      for n in range(12)),
    *((INSIDE, n, other_sides(n, PLACES), r"\(2, {}, {}, {}\)".format(*PLACES[n], PLACES[n][1]))
      for n in range(5)),
    (DOWN, 0, zeros(3, 16, 16, 16), r"\(2, 16, 16, 16\)"),
    (DOWN, 4, zeros(2, 33, 8, 8), r"\(2, 32, 8, 8\)"),
    (DOWN, 4, zeros(1, 2, 32, 8, 8), r"\(2, 32, 8, 8\)"),
    (DOWN, 4, zeros(2, 32, 8, 8).double(), WIDE),
    (DOWN, 4, zeros(2, 32, 8, 8, **META), ELSEWHERE),
    (DOWN, 4, None, "a tensor.*None"),
    (DOWN, 4, np.zeros((2, 32, 8, 8)), "a tensor.*ndarray"),
    (INSIDE, 4, zeros(1, 64, 2, 2), r"\(2, 64, 2, 2\)"),  # the reference passes over it in silence
    (INSIDE, 2, 0.5, "a tensor.*float"),
    (MID, None, zeros(2, 32, 2, 2), r"\(2, 64, 2, 2\)"),
    (MID, None, zeros(3, 64, 2, 2), r"\(2, 64, 2, 2\)"),
    (MID, None, 0.5, "a tensor.*float"),
    (MID, None, None, ""),
    (DOWN, None, [zeros(1)] * 13, "12, got 13"),
    (DOWN, None, zeros(12, 2, 16, 16), "list.*Tensor"),
    (INSIDE, None, [zeros(1)] * 6, "4 or 5, got 6"),
    (INSIDE, None, {0: zeros(1)}, "list.*dict"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "number", "value", "message"), RESIDUALS, ids=short)
def test_a_residual_that_does_not_fit_is_named_with_its_number(name, number, value, message):
    _, ours, inputs = case("sd15")
    given = residuals()
    if number is None:
        given[name] = value
    else:
        given[name][number] = value
    place = name if number is None else rf"{name}\[{number}\]"
    refused(lambda: ours(**inputs | given), f"{place}.*{message}")


def test_residuals_that_fit_are_taken():
    _, ours, inputs = case("sd15")
    assert torch.equal(ours(**inputs, **residuals()).sample, ours(**inputs).sample)


@pytest.mark.parametrize("value", [None, "five", [5]], ids=short)
@pytest.mark.parametrize("name", [SAMPLE, "timestep", TEXT])
def test_a_recorded_model_refuses_the_same(name, value):
    _, ours, inputs = case("sd15")
    with ux.record(ours) as rec:
        refused(lambda: ours(**inputs | {name: value}), f"^{name}: ")
    assert not rec.runs


# 2. What the reference takes is taken, and gives the same: one for all, other types, or flat.
TAKEN = [
    *(("sd15", "timestep", t) for t in (5, 5.5, np.int64(5), np.float64(5.5), tensor(5))),
    *(("sd15", "timestep", t) for t in (tensor([5]), tensor([5, 600]), tensor(5.5).half())),
    ("sd15", MASK, tensor([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0]])),
    ("sd15", MASK, tensor([[True, True, False, True, True]] * 2)),
    ("sd15", MASK, zeros(2, 5).double()),
    ("sd15", TEXT, zeros(2, 0, 24)),  # no token at all
    ("sd15", SAMPLE, torch.ones(2, 4, 1, 1)),
    ("padding_0", SAMPLE, torch.ones(2, 4, 2, 3)),
    ("sd15", CROSS, {}),
    ("sd15", ADDED, {}),
    ("sd15", ADDED, {"image_embeds": None}),
    *(("lcm", GUIDANCE, torch.ones(shape)) for shape in ((12,), (1, 12), (2, 12))),
    *(("class_table", LABELS, x) for x in (tensor(3), tensor([3]), tensor([3, 6]).int())),
    *(("class_timestep", LABELS, x) for x in (tensor([3]), tensor([3, 4.5]))),
    *(("class_projection", LABELS, torch.ones(shape)) for shape in ((20,), (1, 20))),
    *(("class_identity", LABELS, torch.ones(shape)) for shape in ((64,), (1, 64), (2, 1), ())),
    ("class_identity", LABELS, torch.ones(2, 64).long()),
    ("sdxl", ADDED, dict(text_embeds=torch.ones(1, 20), time_ids=torch.ones(1, 6))),
    ("sdxl", ADDED, dict(text_embeds=torch.ones(2, 20).double(), time_ids=torch.ones(2, 6).int())),
    ("sdxl", ADDED, dict(text_embeds=torch.ones(2, 20), time_ids=torch.arange(12.0))),
]


@torch.no_grad()
@pytest.mark.parametrize(("model", "name", "value"), TAKEN, ids=short)
def test_what_the_reference_takes_is_taken_and_gives_the_same(model, name, value):
    reference, ours, inputs = case(model)
    inputs[name] = value
    assert error(ours(**inputs).sample, reference(**inputs).sample) <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 32, 8, 8), (32, 1, 1), (2, 1, 8, 1), ()], ids=str)
def test_residuals_are_broadcast_as_in_the_reference(shape):
    reference, ours, inputs = case("sd15")
    given = residuals()
    given[DOWN][4] = torch.ones(shape)
    given[INSIDE][1] = torch.ones(shape)
    expected = reference(**inputs | given | {INSIDE: list(given[INSIDE])}).sample
    assert error(ours(**inputs | given).sample, expected) <= 1e-5


@torch.no_grad()
def test_under_autocast_numbers_of_another_type_are_taken():
    reference, ours, inputs = case("sd15")
    inputs[TEXT] = inputs[TEXT].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert error(ours(**inputs).sample, reference(**inputs).sample) <= 0.05


def test_weights_that_wait_elsewhere_are_no_reason_to_refuse():
    """accelerate's offloading, sequential: on the meta device until a module is called."""
    from copy import deepcopy

    from accelerate import cpu_offload

    _, ours, inputs = case("sd15")
    with torch.no_grad():
        expected = ours(**inputs).sample
        waiting = cpu_offload(deepcopy(ours), execution_device=CPU)
        assert waiting.device.type == "meta"
        assert torch.equal(waiting(**inputs).sample, expected)


# 3. Our pipelines, and what is asked of a record: one tiny pipeline, run once.
class Made(NamedTuple):
    pipe: Pipeline
    run: Run
    rec: Recording
    mean: Recording  # of means alone, of two runs


@pytest.fixture(scope="module")
def made(tiny_folder) -> Made:
    pipe = ux.load(tiny_folder, device="cpu")
    kept = dict(attention="heads", self_attention=True, halves="both", stats=True)
    with ux.record(pipe.unet, "mid_block", **kept) as rec:
        run = pipe("a red circle left of a blue circle", steps=2)
    with ux.record(pipe.unet) as mean:
        pipe("a red circle", steps=1)
        pipe("a red circle", steps=1)
    return Made(pipe, run, rec, mean)


SIZE = (1, 4, 8, 8)
OPTIONS = [
    ("prompt", None, "one string.*None"),
    ("prompt", 5, "one string.*int"),
    ("prompt", b"a red circle", "one string.*bytes"),
    ("prompt", ["a red circle", 5], "one string.*list"),
    ("prompt", ["a red circle"] * 9999, "one string.*list"),
    ("prompt", "a \udc80 circle", "no text.*U\\+DC80.*place 2"),
    ("negative_prompt", None, "one string.*None"),
    ("negative_prompt", b"", "one string.*bytes"),
    ("negative_prompt", "\ud800", "no text.*U\\+D800"),
    ("steps", -3, "1 or more.*-3"),
    ("height", "64", "multiple of 8.*'64'"),
    ("height", 64.5, "multiple of 8.*64.5"),
    ("height", True, "multiple of 8.*True"),
    ("width", 0, "multiple of 8.*0"),
    ("width", -8, "multiple of 8.*-8"),
    ("width", [64], "multiple of 8.*64"),
    ("latents", np.zeros(SIZE), "a tensor.*ndarray"),
    ("latents", [0.0], "a tensor.*list"),
    ("latents", zeros(4, 8, 8), r"\(1, 4, height, width\).*\(4, 8, 8\)"),
    ("latents", zeros(2, 4, 8, 8), r"\(1, 4, height, width\).*\(2, 4, 8, 8\)"),
    ("latents", zeros(1, 4, 8, 0), r"\(1, 4, 8, 8\).*\(1, 4, 8, 0\)"),
    ("latents", zeros(SIZE, dtype=torch.complex64), "complex64"),
    ("latents", zeros(SIZE, **META), "meta"),
    ("step", 4, "closest: steps"),
    ("negative", "blue", "closest: negative_prompt"),
    ("num_inference_steps", 4, "write steps="),
]


@pytest.mark.parametrize(("name", "value", "message"), OPTIONS, ids=short)
def test_an_option_of_a_run_that_does_not_fit_is_refused_by_name(made, name, value, message):
    given = {"prompt": "a red circle", name: value}
    refused(lambda: made.pipe.denoise(**given), f"^{name}.*{message}")
    refused(lambda: made.pipe(**given), f"^{name}.*{message}")


PICTURE = np.zeros((64, 64, 3))
LOOKS = [
    ("image", None, "one picture.*NoneType"),
    ("image", np.zeros((2, 3, 64, 64)), r"one picture.*\(2, 3, 64, 64\)"),
    ("image", "no such.png", "no such.png"),
    ("prompt", 5, "one string.*int"),
    ("t", [], "from 0 to 999"),
    ("t", 1000, "from 0 to 999"),
    ("pipe", 5, "a pipeline.*int"),
]


@pytest.mark.parametrize(("name", "value", "message"), LOOKS, ids=short)
def test_an_argument_of_maps_of_that_does_not_fit_is_refused(made, name, value, message):
    given = dict(pipe=made.pipe, image=PICTURE, prompt="a red circle") | {name: value}
    refused(lambda: ux.maps_of(**given), message)


CROSSES = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
QUESTIONS = {
    "a word misspelt": (lambda x: x.rec.attention("circel"), "closest: circle"),
    "no word": (lambda x: x.rec.attention(""), "'' is not in the prompt"),
    "a number for a word": (lambda x: x.rec.attention(5), "word: .*int"),
    "bytes for a word": (lambda x: x.rec.attention(b"red"), "word: .*bytes"),
    "words in a list": (lambda x: x.rec.attention(["red"]), "word: .*list"),
    "control characters": (lambda x: x.rec.attention("\x1b[2J\u202e"), r"\\x1b\[2J\\u202e"),
    "a word without end": (lambda x: x.rec.attention("red " * 10**5), "is not in the prompt"),
    "token beyond": (lambda x: x.rec.attention(token=77), "token 77 .* 77 "),
    "token before": (lambda x: x.rec.attention(token=-78), "token -78 .* 77 "),
    "a word for a token": (lambda x: x.rec.attention(token="red"), "token: .*'red'"),
    "half a token": (lambda x: x.rec.attention(token=1.5), "token: .*1.5"),
    "a yes for a token": (lambda x: x.rec.attention(token=True), "token: .*True"),
    "head beyond": (lambda x: x.rec.attention("red", head=2), "head 2 .* 2 "),
    "head as text": (lambda x: x.rec.attention("red", head="1"), "head: .*'1'"),
    "head where means were kept": (lambda x: x.mean.attention("red", head=0, run=0), '"heads"'),
    "step beyond": (lambda x: x.rec.attention("red", step=2), "step 2 .* 2 "),
    "step as text": (lambda x: x.rec.attention("red", step="1"), "step: .*'1'"),
    "a step in a list": (lambda x: x.rec.attention("red", step=[0, 99]), "step 99"),
    "no steps": (lambda x: x.rec.attention("red", step=range(0)), r"step: .*range\(0, 0\)"),
    "steps of a slice": (lambda x: x.rec.attention("red", step=slice(1)), "step: .*slice"),
    "no run chosen": (lambda x: x.mean.attention("red"), "run=0 to 1"),
    "run beyond": (lambda x: x.mean.attention("red", run=2), "run 2 .* 2 "),
    "run as text": (lambda x: x.mean.attention("red", run=""), "run: .*''"),
    "a no for a run": (lambda x: x.mean.attention("red", run=False), "run: .*False"),
    "picture beyond": (lambda x: x.rec.attention("red", picture=1), "picture 1 .* 1 "),
    "picture as text": (lambda x: x.rec.attention("red", picture="x"), "picture: .*'x'"),
    "occurrence beyond": (lambda x: x.rec.attention("circle", occurrence=2), "occurrence 2 .* 2 "),
    "occurrence as text": (lambda x: x.rec.attention("red", occurrence="a"), "occurrence: .*'a'"),
    "layer misspelt": (lambda x: x.rec.attention("red", layer="mid_blok"), r"closest: mid_block\*"),
    "glob misspelt": (lambda x: x.rec.attention("red", layer="up_block.1*"), r"up_blocks\.1\*"),
    "layer without its end": (lambda x: x.rec.weights(CROSSES[:-6]), re.escape(CROSSES)),
    "no layer": (lambda x: x.rec.attention("red", layer=""), "no cross-attention fits ''"),
    "layer by number": (lambda x: x.rec.attention("red", layer=0), "name or a glob.*int"),
    "a layer in a list": (lambda x: x.rec.attention("red", layer=["mid*", "mid"]), "fits 'mid'"),
    "no layers": (lambda x: x.rec.attention("red", layer=[]), r"layer: .*\[\]"),
    "weights of all layers": (lambda x: x.rec.weights("*"), "choose one"),
    "half misspelt": (lambda x: x.rec.attention("red", half="cond"), "half='cond'"),
    "half by number": (lambda x: x.rec.attention("red", half=1), "half=1"),
    "method misspelt": (lambda x: x.rec.attention("red", method="men"), "method='men'"),
    "no image prompt": (lambda x: x.rec.attention(token=1, image_prompt=0), "image prompt 0"),
    "image prompts": (lambda x: x.rec.attention(token=1, image_prompt=[0]), r"image prompt.*\[0\]"),
    "pixel by number": (lambda x: x.rec.self_attention(layer="mid*", pixel=5), "pixel: .*5"),
    "pixel beyond": (lambda x: x.rec.self_attention(layer="mid*", pixel=(0, 9)), r"\(0, 9\)"),
    "half a pixel": (lambda x: x.rec.self_attention(layer="mid*", pixel=(0, 0.5)), "pixel: .*0.5"),
    "three axes": (lambda x: x.rec.self_attention(layer="mid*", pixel=(0, 0, 0)), "pixel: .*0, 0"),
    "no layer of pixels": (lambda x: x.rec.self_attention(layer=None), "name or a glob.*None"),
    "module misspelt": (lambda x: x.rec["mid_blok"], "closest: mid_block"),
    "module not kept": (lambda x: x.rec["conv_in"], "'conv_in' was not kept"),
    "module by number": (lambda x: x.rec[0], "name.*int"),
    "no module": (lambda x: x.rec[None], "name.*None"),
    "a step that was not": (lambda x: x.rec.given(7), "step 7 .* 2 "),
    "replay of none": (lambda x: x.rec.replay("x"), "step: .*'x'"),
    "replay of no module": (lambda x: x.rec.replay(0, "mid_blok"), "closest: mid_block"),
    "replay on no UNet": (lambda x: x.rec.replay(0, unet=5), "a UNet.*int"),
    "record of no UNet": (lambda x: ux.record(5), "a UNet.*int"),
    "record of a number": (lambda x: ux.record(x.pipe.unet, 5), "name or a glob.*int"),
    "record of nothing": (lambda x: ux.record(x.pipe.unet, "mid_blok"), "closest: mid_block"),
    "attention misspelt": (lambda x: ux.record(x.pipe.unet, attention="head"), "attention='head'"),
    "budget in words": (lambda x: ux.record(x.pipe.unet, budget="1.2.3GB"), "budget='1.2.3GB'"),
    "budget below 0": (lambda x: ux.record(x.pipe.unet, budget=-1), "budget=-1"),
    "a yes for a budget": (lambda x: ux.record(x.pipe.unet, budget=True), "budget=True"),
    "device misspelt": (lambda x: ux.record(x.pipe.unet, device="gpu"), "device='gpu'"),
    "device not there": (lambda x: ux.record(x.pipe.unet, device="cuda:99"), "device='cuda:99'"),
    "kept nowhere": (lambda x: ux.record(x.pipe.unet, device=None), "device=None"),
    "change of a number": (lambda x: ux.intervene(x.pipe.unet, 5, abs), "name or a glob.*int"),
    "change of nothing": (lambda x: ux.intervene(x.pipe.unet, "mid_blok", abs), "mid_block"),
    "change at no argument": (lambda x: change(x, on="tmb"), "closest: temb"),
    "change at a number": (lambda x: change(x, on=5), "on=5"),
    "heatmaps of no record": (lambda x: ux.plot_heatmaps(x.run, None), "Recording.*None"),
    "heatmaps over nothing": (lambda x: ux.plot_heatmaps(None, x.rec), "image: .*NoneType"),
    "heatmaps over no file": (lambda x: ux.plot_heatmaps("no.png", x.rec), "no.png"),
    "heatmaps of no layer": (lambda x: ux.plot_heatmaps(x.run, x.rec, layer="x"), "'x'"),
    "heatmaps of no word": (lambda x: ux.plot_heatmaps(x.run, x.rec, words=[]), r"words: .*\[\]"),
    "heatmaps of a number": (lambda x: ux.plot_heatmaps(x.run, x.rec, words=5), "words: .*5"),
    "heatmaps in colours": (lambda x: ux.plot_heatmaps(x.run, x.rec, cmap="gray"), "no cmap="),
    "explorer of a number": (lambda x: ux.explore(5), "a Run.*int"),
    "explorer of no picture": (lambda x: ux.explore(x.rec, picture=7), "picture 7 .* 1 "),
    "map of nothing": (lambda x: ux.umap(None), "expected a Run.*None"),
    "map of no preset": (lambda x: ux.umap("sd51"), "sd51.*sd15"),
    "live of no prompt": (lambda x: ux.live(x.pipe, 5), "^prompt.*int"),
    "live of no pipeline": (lambda x: ux.live(5, "a"), "pipe: .*int"),
    "stage misspelt": (lambda x: ux.shape_table("sd15", stage="midd"), "stage='midd'.*4 mid"),
    "table of a VAE": (lambda x: ux.shape_table(x.pipe.vae), "UNet.*AutoencoderKL"),
    "load of a pipeline": (lambda x: ux.load(x.pipe), "got a Pipeline.*ux.record"),
    "weights of a UNet": (lambda x: ux.UNet2DConditionModel.from_pretrained(x.pipe.unet), "folder"),
    "ours of a pipeline": (lambda x: ux.from_diffusers(x.pipe), "pipe.unet.*got Pipeline"),
}


def change(made: Made, **where):
    return ux.intervene(made.pipe.unet, "mid_block", abs, **where)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_about_what_there_is_not_is_answered_with_what_there_is(made, question):
    ask, message = QUESTIONS[question]
    refused(lambda: ask(made), message)


# 4. Prompts.
PROMPTS = {
    "nothing": ("", []),
    "spaces": (" \n ", []),
    "punctuation": ("... !", []),
    "emoji": ("\U0001f642", []),
    "emoji and a word": ("\U0001f642 circle", ["circle"]),
    "a family": ("\U0001f468\u200d\U0001f469\u200d\U0001f467 circle", ["circle"]),
    "right to left": ("دائرة حمراء", ["دائرة", "حمراء"]),
    "override of direction": ("red\u202e elcric", ["red", "elcric"]),
    "combining accents": ("cafe\u0301 circle", ["circle"]),
    "control characters": ("red\x00 \x07circle\x1b", ["red", "circle"]),
    "lines": ("a red\ncircle\tleft", ["a", "red", "circle", "left"]),
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_any_text_can_be_a_prompt_and_its_words_have_maps(made, kind):
    text, words = PROMPTS[kind]
    with ux.record(made.pipe.unet) as rec:
        run = made.pipe(text, steps=1)
    assert set(words) <= set(run.prompt.words)
    assert bool(words) == bool(run.prompt.words)
    for word in words:
        assert rec.attention(word).isfinite().all()


def test_of_ten_thousand_words_it_is_said_what_is_cut_off(made):
    words = [f"word{i}" for i in range(10_000)]
    with pytest.warns(UserWarning, match="is cut off") as said:
        prompt = read_prompt(" ".join(words), made.pipe.tokenizer)
    (message,) = [str(one.message) for one in said]
    kept = len(prompt.words)
    assert 10 < kept < 77
    assert f"{10_000 - kept} words" in message
    assert f"word{kept} " in message
    assert "word9999" in message
    assert len(message) < 500


def heatmap(folder, *arguments: str) -> int:
    return main(["heatmap", *arguments, "--model", str(folder), "--device", "cpu", "--steps", "1"])


@pytest.mark.parametrize("text", ["", "  ", "...", "\U0001f642", "a \udc80", "! " * 90 + "cat"])
def test_a_prompt_without_maps_is_refused_before_the_run(tiny_folder, tmp_path, capsys, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused_by_main(lambda: heatmap(tiny_folder, text, "--out", str(tmp_path / "x.png")))
    assert "prompt" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def refused_by_main(call) -> None:
    ran = []
    hook = register_module_forward_pre_hook(lambda module, _: ran.append(type(module).__name__))
    try:
        assert call() == 2
    finally:
        hook.remove()
    assert not ran


@pytest.mark.parametrize(("command", "nearest"), [("heatmpa", "heatmap"), ("shape", "shapes")])
def test_an_unknown_command_is_answered_with_the_closest(capsys, command, nearest):
    with pytest.raises(SystemExit):
        main([command, "a red circle"])
    assert f"no command '{command}'; the closest: {nearest}" in capsys.readouterr().err


# 5. What diffusers' own pipelines pass.
THEIRS = (
    "sd", "img2img", "inpaint", "depth", "pix2pix", "upscale", "controlnet", "controlnets", "guess",
    "t2i", "lcm", "xl", "xl_t2i", "xl_controlnet", "refiner",
)  # fmt: skip


@pytest.mark.parametrize("kind", THEIRS)
def test_diffusers_pipelines_pass_nothing_that_is_refused(kind):
    pipe, options = pipelines.build(kind)
    expected = pipelines.run(pipe, **options)
    pipe.unet = ux.from_diffusers(pipe.unet)
    assert error(pipelines.run(pipe, **options), expected) <= 1e-4

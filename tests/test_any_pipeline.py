"""diffusers' pipelines, recorded: every row is whose it is, and every word is where it looks."""

import pytest
import torch
from kernels import Kernels
from pipeline_cases import CASES, KEYS, Case, embedding, picture, role
from pipelines import FISH, FROG, RED, build, run

import unet_explained as ux

pytestmark = pytest.mark.slow  # many small runs: half a minute and more together

FLOAT16 = 2e-3  # an entry, as it is kept


@pytest.mark.parametrize("name", CASES)
def test_the_table_itself_is_what_the_pipeline_does(name):
    case = CASES[name]
    pipe, call = case.build()
    with Kernels(pipe.unet) as truth:
        call()
    assert len(truth.contexts) == len(case.layouts)
    for context, layout in zip(truth.contexts, case.layouts):
        assert len(context) == len(layout)
        for row, embeds in zip(layout, context):
            expected = embedding(pipe, case.text(row))
            expected = torch.zeros_like(expected) if row[0] == "~" else expected
            torch.testing.assert_close(embeds, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_rows_and_words(name):
    case = CASES[name]
    pipe, call = case.build()
    with Kernels(pipe.unet) as truth:
        expected = call()
    with ux.record(pipe, attention="heads", halves="both") as rec:
        assert torch.equal(call(), expected)
    assert rec.unknown == []
    assert [run.finished for run in rec.runs] == [True]
    assert len(rec.runs[0].timesteps) == len(truth.forwards)
    assert rec.layers == truth.sizes
    for step, layout in enumerate(case.layouts):
        rows = rec.runs[0].steps[step].batch
        assert [(row.role, row.picture) for row in rows] == [(role(r), picture(r)) for r in layout]
        assert all(map(right, layout, rows, [case] * len(rows)))
        for row, code in enumerate(layout):
            same_maps(rec, truth, case, step, row, code)
    said = {case.text(code) for layout in case.layouts for code in layout if code[0] != "~"}
    assert said <= {text.text for text in rec.texts} <= {*said, ""}


def right(code: str, row, case: Case) -> bool:
    """Zeros in place of a negative prompt are of no text, or of an empty one."""
    if code[0] == "~":
        return row.text is None or row.text.text == ""
    return row.text is not None and row.text.text == case.text(code)


def same_maps(rec, truth: Kernels, case: Case, step: int, row: int, code: str) -> None:
    """Of one row at one forward: each layer's weights, and each word's column of them."""
    chosen = dict(step=step, half=role(code), picture=picture(code))
    for layer, (height, width) in truth.sizes.items():
        expected = truth.mean(step, layer, row)
        near(rec.weights(layer, **chosen), expected)
        words = {} if code[0] == "~" else KEYS.get(case.text(code), {})
        for word, places in words.items():
            total = sum(expected[:, list(tokens)].sum(dim=1) for tokens in places) / len(places)
            near(rec.attention(word, layer=layer, **chosen), total.view(height, width))


def near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected, atol=2 * FLOAT16, rtol=0)


ALIKE = {
    "sd": ["-0 -1 +0 +1", {}],
    "pag": ["-0 -1 +0 +1 +0#2 +1#2", {}],
    "pix2pix": ["+0 +1 -0 -1 -0#2 -1#2", {"image": torch.ones(2, 3, 64, 64)}],
}


@pytest.mark.parametrize("prompts", [[RED, FISH], [RED, RED]], ids=["two prompts", "one twice"])
@pytest.mark.parametrize("kind", ALIKE)
def test_pictures_from_the_same_noise_are_told_apart_or_not_at_all(kind, prompts):
    layout, more = ALIKE[kind]
    pipe, options = build(kind)
    noise = [torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)]
    with ux.record(pipe, halves="both") as rec:
        pipe(prompts, generator=noise, **options | more)
    for row, code in zip(rec.runs[0].steps[0].batch, layout.split(), strict=True):
        assert row.text.text == (prompts[picture(code)] if code[0] == "+" else "")
        assert row.picture in (picture(code), None)
        if row.picture is not None:
            assert row.role in (role(code), None)


def test_a_negative_prompt_that_is_another_pictures_prompt_is_not_taken_for_it():
    case = Case("sd", "-0 -1 +0 +1", [RED, FISH], [FISH, FROG])
    pipe, call = case.build()
    with ux.record(pipe, halves="both") as rec:
        call()
    for row, code in zip(rec.runs[0].steps[0].batch, case.layouts[0], strict=True):
        assert row.text.text == case.text(code)
        assert row.role in (role(code), None)
        assert row.picture in (picture(code), None)
    assert rec.unknown


def test_of_all_layers_and_steps_the_mean():
    case = CASES["two prompts"]
    pipe, call = case.build()
    with Kernels(pipe.unet) as truth:
        call()
    with ux.record(pipe) as rec:
        call()
    maps = []
    for layer, size in truth.sizes.items():
        steps = [truth.mean(step, layer, 3)[:, 3].view(size) for step in (0, 1)]
        mean = torch.stack(steps).mean(dim=0)[None, None]
        maps.append(torch.nn.functional.interpolate(mean, size=(8, 8), mode="bilinear")[0, 0])
    near(rec.attention("fish", picture=1), torch.stack(maps).mean(dim=0))
    with pytest.raises(ValueError, match="picture=0 to 1"):
        rec.attention("fish")


def test_recorders_within_each_other_and_nothing_left_behind():
    pipe, options = build("sd")
    kind = type(pipe)
    run(pipe, RED, **options)
    before = hooks(pipe)  # transformers has its own
    with ux.record(pipe) as outer:
        with ux.record(pipe) as inner:
            run(pipe, RED, **options)
        run(pipe, FISH, **options)
        with pytest.raises(RuntimeError, match="enough"), ux.record(pipe):
            run(pipe, RED, callback_on_step_end=stop, **options)
    assert [text.text for text in inner.texts] == [RED]
    assert [[text.text for text in one.texts] for one in outer.runs] == [[RED], [FISH], [RED]]
    assert torch.equal(outer.attention("circle", run=0), inner.attention("circle"))
    assert type(pipe) is kind
    assert hooks(pipe) == before
    run(pipe, RED, **options)
    assert len(outer.runs) == 3


def hooks(pipe) -> list[int]:
    """How many there are on each module."""
    modules = (m for part in (pipe.unet, pipe.text_encoder, pipe.vae) for m in part.modules())
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules]


def stop(pipe, step, timestep, values):
    raise RuntimeError("enough")

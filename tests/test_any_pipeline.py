"""diffusers' pipelines, recorded: every row is whose it is, and every word is where it looks."""

import pytest
import torch
from kernels import Kernels
from pipeline_cases import CASES, KEYS, Case, embedding, picture, role

import unet_explained as ux

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

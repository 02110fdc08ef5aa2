"""ux.check: a right answer is told so, and a wrong one what is wrong, without ever raising."""

import math

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from unet_explained.lessons.check import check
from unet_explained.model.attention import Attend
from unet_explained.model.embeddings import Timesteps

WAVES = Timesteps(32, flip_sin_to_cos=True, freq_shift=0)
T = torch.tensor([0, 7, 999])
CONV = nn.Conv2d(3, 8, 3, padding=1)
PICTURE = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))
QKV = torch.randn(3, 2, 4, 6, 5, generator=torch.Generator().manual_seed(0))


def to_grid(x) -> Float[Tensor, "batch channel height width"]:
    return rearrange(x, "batch channel height width -> batch channel height width")


def parallel(t, flip=False, scale=1.0):
    angle = t[:, None] * torch.exp(-math.log(10000) * torch.arange(16) / 16)
    waves = [angle.cos(), angle.sin()]
    return torch.cat(waves[::-1] if flip else waves, dim=1) * scale


def test_a_right_answer_is_right_and_says_how_close():
    assert repr(check(WAVES, WAVES, T)) == "✓ equal: bit for bit"
    verdict = check(parallel, WAVES, T)
    assert verdict
    assert "equal" in repr(verdict)
    assert check(lambda q, k, v: F.softmax(q @ k.mT / 5**0.5, -1) @ v, Attend(), *QKV)


@pytest.mark.parametrize("given", [None, ...], ids=["None", "..."])
def test_what_is_not_written_yet_is_not_wrong(given):
    verdict = check(lambda t: given, WAVES, T)
    assert not verdict
    assert "not written yet" in repr(verdict)


def test_an_answer_may_say_itself_that_it_is_not_written():
    def answer(t):
        raise NotImplementedError

    assert "not written yet" in repr(check(answer, WAVES, T))


def test_an_error_is_told_with_its_line():
    def answer(t):
        return t @ torch.zeros(5, 5)

    told = repr(check(answer, WAVES, T.float()))
    assert "RuntimeError" in told
    assert "return t @ torch.zeros(5, 5)" in told


WRONG = {
    "no tensor": (lambda t: "waves", "expected a tensor, got str: 'waves'"),
    "dtype": (lambda t: parallel(t).double(), "dtype: expected float32, got float64"),
    "axes": (lambda t: parallel(t)[0], "expected 2 axes (batch, channel), got 1: (32,)"),
    "size": (lambda t: parallel(t)[:, :20], "axis channel: expected 32, got 20"),
    "sizes": (lambda t: parallel(t)[:1, :20], "axis batch: expected 3, got 1; axis channel"),
    "factor": (lambda t: parallel(t, scale=0.5), "a constant factor of 2.0 would make it right"),
    "root": (lambda t: parallel(t, scale=40**0.5), "a constant factor of 0.1581 (1/√40)"),
    "sign": (lambda t: -parallel(t), "a constant factor of -1.0 would make it right"),
    "halves": (lambda t: parallel(t, flip=True), "halves along channel: sin and cos are swapped"),
    "transposed": (lambda t: parallel(t).T, "equal after a transpose of the last two axes"),
    "flat": (lambda t: parallel(t).flatten(), "the numbers are right: only the shape is not"),
    "nan": (lambda t: parallel(t) / 0 * 0, "96 of 96 numbers are NaN or infinite"),
    "zeros": (lambda t: parallel(t) * 0, "all numbers are 0"),
    "order": (lambda t: parallel(t)[:, torch.arange(31, -1, -1)], "right numbers in another order"),
    "two": (lambda t: (parallel(t), parallel(t)), "expected 1 tensors, got 2"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_told_what_is_wrong(answer, said):
    verdict = check(answer, WAVES, T)
    assert not verdict
    assert said in repr(verdict)
    assert len(repr(verdict).splitlines()) <= 2


def test_the_largest_difference_is_found_by_the_names_of_its_axes():
    def answer(x):
        x[1, 2, 5, 3] += 10
        return x

    told = repr(check(answer, to_grid, PICTURE))
    assert "off by up to 10" in told
    assert "batch=1 channel=2 height=5 width=3" in told


def test_a_missing_bias_is_seen():
    told = repr(check(lambda x: F.conv2d(x, CONV.weight, padding=1), CONV, PICTURE))
    assert "the same along batch, height, width" in told


def test_axes_in_another_order_are_named():
    told = repr(check(lambda x: rearrange(x, "b c h w -> b h w c"), to_grid, PICTURE))
    assert "axes in the order batch height width channel" in told


def test_an_answer_that_writes_in_place_spoils_nothing():
    before = PICTURE.clone()
    assert not check(lambda x: x.zero_(), CONV, PICTURE)
    assert torch.equal(PICTURE, before)
    assert check(lambda x: CONV(x), CONV, PICTURE)


def test_several_tensors_and_plain_numbers():
    both = PICTURE, [PICTURE, PICTURE[:1]]
    assert check(lambda: both, lambda: both)
    wrong = repr(check(lambda: (PICTURE, [PICTURE, PICTURE]), lambda: both))
    assert wrong.splitlines()[0] == "✗ tensor 2: axis batch: expected 1, got 2"
    assert check(lambda: 0.5, lambda: 0.5)
    assert "off by up to" in repr(check(lambda: 0.25, lambda: 0.5))
    assert check(lambda: ["red", "circle"], lambda: ["red", "circle"])
    assert "got 'green'" in repr(check(lambda: "green", lambda: "red"))


def test_options_are_given_to_both_and_modules_are_answers():
    assert check(F.silu, nn.SiLU(), PICTURE)
    assert check(torch.softmax, torch.softmax, PICTURE, dim=1)
    assert not check(lambda x, dim: x.softmax(-1), torch.softmax, PICTURE, dim=1)


def test_half_precision_is_compared_as_half_precision():
    half = PICTURE.half()
    assert check(lambda x: (x.float() * 1.001).half(), lambda x: x, half)
    assert not check(lambda x: x * 1.001, lambda x: x, PICTURE)


def test_html_is_escaped():
    def answer(t):
        raise ValueError("<script>")

    html = check(answer, WAVES, T)._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html

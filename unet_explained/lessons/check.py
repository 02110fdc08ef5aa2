"""check(): a reader's own answer beside the real module, and in a line or two what is different."""

import inspect
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import torch
from torch import Tensor, nn

from ..recording.axes import axes_of, see
from ..recording.nested import copied
from .hints import at, excess, hint, shape_hint
from .slips import slip_of

# Of the largest absolute value: sums in another order differ by less than this.
TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
USUAL_TOLERANCE = 1e-5
MARKS = {"right": ("✓", "#2a9d8f"), "wrong": ("✗", "#ee6c4d"), "missing": ("…", "#8d99ae")}


@dataclass(frozen=True)
class Verdict:
    """What `check` found: true if the answer is right."""

    state: str  # "right", "wrong" or "missing"
    text: str
    hint: str = ""
    difference: float = 0.0  # the largest, as a share of the largest value

    def __bool__(self) -> bool:
        return self.state == "right"

    def __repr__(self) -> str:
        second = f"\n  {self.hint}" if self.hint else ""
        return f"{MARKS[self.state][0]} {self.text}{second}"

    def _repr_html_(self) -> str:
        mark, colour = MARKS[self.state]
        # The text keeps the page's own colour, so that it reads on white and on black.
        second = f'<br><span style="opacity:.8">{escape(self.hint)}</span>' if self.hint else ""
        return (
            f'<div style="border-left:4px solid {colour};padding:.2em .8em">'
            f'<b style="color:{colour}">{mark}</b> {escape(self.text)}{second}</div>'
        )


def check(
    answer: Callable, reference: nn.Module | Callable, *inputs: Any, **options: Any
) -> Verdict:
    """Whether answer(*inputs, **options) gives what the reference gives, and if not, what differs.

    Each is given its own copies of the tensors. Numbers may differ by 1e-5 of the largest one (in
    half precision more). An answer that raises is reported too; only a reference may raise. For a
    wrong answer a module is run again with each slip that is known of its class: if the answer has
    the same numbers, the hint names the slip.
    """
    with torch.no_grad():
        expected = reference(*_fresh(inputs), **_fresh(options))
        try:
            actual = answer(*_fresh(inputs), **_fresh(options))
        except NotImplementedError:
            actual = None
        except Exception as error:
            return Verdict("wrong", *_where_it_failed(error, answer))
        if actual is None or actual is ...:
            return Verdict("missing", "not written yet: the answer returned nothing")
        verdict = _compare_all(actual, expected, list(_axes(reference, expected)))
        if verdict.state == "wrong" and isinstance(reference, nn.Module):
            return _named(verdict, actual, expected, reference, *_fresh(inputs), **_fresh(options))
        return verdict


def _named(verdict: Verdict, actual, expected, reference: nn.Module, *inputs, **options) -> Verdict:
    """The verdict with the slip's name for a hint, where it is a known one."""
    answers, references = list(_tensors(actual)), list(_tensors(expected))
    if [one.shape for one in answers] != [one.shape for one in references[:1]]:
        return verdict
    slip = slip_of(answers[0], references[0], reference, *inputs, **options)
    return replace(verdict, hint=f"these are the numbers of a slip: {slip}") if slip else verdict


def _compare_all(actual, expected, axes: list[tuple[str, ...]]) -> Verdict:
    """Tensor by tensor: the first that is wrong, or else the one with the largest difference."""
    answers, references = list(_tensors(actual)), list(_tensors(expected))
    if not references:  # words, names: things that are equal or are not
        same, got = actual == expected, f"expected {expected!r}, got {actual!r}"
        return Verdict("right", "equal") if same else Verdict("wrong", _short(got))
    if not answers:
        kind = type(actual).__name__
        return Verdict("wrong", f"expected a tensor, got {kind}: {_short(repr(actual))}")
    if len(answers) != len(references):
        return Verdict("wrong", f"expected {len(references)} tensors, got {len(answers)}")
    verdicts = []
    for i, (one, other, names) in enumerate(zip(answers, references, axes)):
        verdict = _compare(one, other, names)
        if not verdict and len(references) > 1:
            return Verdict(verdict.state, f"tensor {i}: {verdict.text}", verdict.hint)
        verdicts.append(verdict)
    return max(verdicts, key=lambda verdict: verdict.difference)


def _compare(actual: Tensor, expected: Tensor, axes: tuple[str, ...]) -> Verdict:
    sizes = tuple(actual.shape)
    if actual.ndim != expected.ndim:
        wanted = f"{expected.ndim} axes ({', '.join(axes)}), got {actual.ndim}: {sizes}"
        return Verdict("wrong", f"expected {wanted}", shape_hint(actual, expected, axes))
    if actual.shape != expected.shape:
        wrong = [
            f"axis {name}: expected {wanted}, got {got}"
            for name, wanted, got in zip(_unlike(axes), expected.shape, sizes)
            if wanted != got
        ]
        return Verdict("wrong", "; ".join(wrong), shape_hint(actual, expected, axes))
    if actual.dtype != expected.dtype:
        wanted, got = (str(tensor.dtype).removeprefix("torch.") for tensor in (expected, actual))
        return Verdict("wrong", f"dtype: expected {wanted}, got {got}")
    return _compare_numbers(actual, expected, axes)


def _compare_numbers(actual: Tensor, expected: Tensor, axes: tuple[str, ...]) -> Verdict:
    tolerance = TOLERANCE.get(expected.dtype, USUAL_TOLERANCE)
    actual, expected = actual.double().cpu(), expected.double().cpu()
    broken = (~actual.isfinite() & expected.isfinite()).sum().item()
    if broken:
        counted = f"{broken} of {actual.numel()} numbers are NaN or infinite"
        return Verdict("wrong", f"{counted}, first at {at(~actual.isfinite(), axes)}")
    off, scale = excess(actual, expected)
    largest = off.max().item() if off.numel() else 0.0
    if largest <= tolerance * scale:
        if largest == 0:
            return Verdict("right", "equal: bit for bit")
        share = largest / scale
        text = f"equal: the largest difference is {share:.1e} of the largest value"
        return Verdict("right", text, difference=share)
    part = (off > tolerance * scale).double().mean().item()
    wrong = "all" if part == 1 else f"{part:.2%} of the"
    relative = f" ({largest / scale:.1%} of the largest value)" if scale else ""
    text = f"off by up to {largest:.3g}{relative} at {at(off, axes)}; {wrong} numbers differ"
    return Verdict("wrong", text, hint(actual, expected, axes, tolerance * scale))


def _axes(reference: nn.Module | Callable, expected) -> Iterator[tuple[str, ...]]:
    """The names of the axes of each tensor that the reference gave: the signature's, or usual."""
    if isinstance(reference, nn.Module):
        spec = axes_of(reference).output
    else:
        try:
            spec = getattr(inspect.signature(reference).return_annotation, "dim_str", None)
        except ValueError:  # some functions of torch have no signature
            spec = None
    seen = [one.axes for one in see(spec, expected)]
    plain = [tuple("_" * tensor.ndim) for tensor in _tensors(expected)]  # numbers, not tensors
    yield from (_unlike(one) for one in (seen if len(seen) == len(plain) else plain))


def _unlike(axes: tuple[str, ...]) -> tuple[str, ...]:
    """An axis without a name of its own ("1", "_") is called by its position."""
    return tuple(
        name if name.isidentifier() and name != "_" else str(i) for i, name in enumerate(axes)
    )


def _tensors(value) -> Iterator[Tensor]:
    """In order, however nested; a number or an array counts as a tensor."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, bool | int | float) or hasattr(value, "__array__"):
        yield torch.as_tensor(value)


def _fresh(value):
    if isinstance(value, dict):
        return {key: _fresh(item) for key, item in value.items()}
    return copied(value)


def _where_it_failed(error: Exception, answer: Callable) -> tuple[str, str]:
    """The error, and the reader's own line that it came from."""
    message = f"{type(error).__name__}: {_short(str(error))}"
    code = getattr(inspect.unwrap(getattr(answer, "forward", answer)), "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if code and frame.filename == code.co_filename]
    found = lines and lines[-1].line
    return message, f"in line {lines[-1].lineno}: {found}" if found else ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 240 else f"{text[:240]} …"

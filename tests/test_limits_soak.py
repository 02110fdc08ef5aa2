"""Soak: many runs in one process leave nothing behind."""

import pytest

from benchmarks import soak

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", soak.KINDS, ids=lambda kind: kind.__name__)
def test_runs_of_a_kind_leave_nothing(kind, tiny_pipe):
    kind(tiny_pipe), kind(tiny_pipe)
    first = soak.Left.now(tiny_pipe)
    for _ in range(3):
        kind(tiny_pipe)
    flat(first, soak.Left.now(tiny_pipe))


@pytest.mark.long
def test_runs_of_all_kinds_leave_nothing(tiny_pipe):
    flat(*soak.endure(tiny_pipe, 20))


@pytest.mark.long
def test_explorers_that_are_open_at_once_and_closed(tiny_pipe):
    soak.explorers(tiny_pipe, 1)
    before, meanwhile, after = soak.explorers(tiny_pipe, 20)
    assert meanwhile.objects > before.objects
    flat(before, after)


def flat(first: soak.Left, last: soak.Left) -> None:
    assert (last.hooks, last.threads, last.widgets) == (0, first.threads, first.widgets)
    assert last.objects - first.objects < 200

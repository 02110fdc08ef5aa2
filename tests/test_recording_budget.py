"""What would not fit is refused in the first forward, with what to drop, and is not kept."""

import re
from contextlib import nullcontext

import pytest
import torch
from recording_helpers import of_a_run

import unet_explained as ux
from unet_explained.model import UNet2DConditionModel
from unet_explained.recording import Identity, Origin, Row, identified, record
from unet_explained.recording.budget import BudgetError, text, to_bytes
from unet_explained.recording.nested import size_of

CONFIG = {
    "block_out_channels": [16, 16],
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}
INPUTS = torch.zeros(2, 4, 16, 24), 7, torch.zeros(2, 77, 24)
# Queries of its four cross-attentions for these latents, times 77 tokens.
ENTRIES = 77 * (3 * 16 * 24 + 8 * 12)


@pytest.fixture(scope="module")
def unet():
    return UNet2DConditionModel.from_config(CONFIG, seed=0).requires_grad_(False)


@pytest.fixture
def run(unet):
    """Some forwards, those of a run or nobody's, under a recorder with these options."""

    def go(forwards, named=True, calls=None, patterns=(), **options):
        go.done = 0
        with record(unet, *patterns, **options) as rec:
            go.rec = rec
            with of_a_run(forwards) if named else nullcontext():
                for _ in range(calls or forwards):
                    unet(*INPUTS)
                    go.done += 1
        return rec

    return go


def kept_bytes(rec) -> int:
    totals = [total for run in rec.runs for total in run.totals.values()]
    kept = [list(total.sums.values()) for total in totals]
    for step in (step for run in rec.runs for step in run.steps):
        kept += [[*step.attention.values()], [*step.pairs.values()], [*step.values.values()]]
    return size_of(kept)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(), 3 * 2 * ENTRIES),
        (dict(halves="both"), 3 * 4 * ENTRIES),
        (dict(attention="heads"), 3 * 2 * 4 * ENTRIES),
        (dict(attention="sum"), 4 * ENTRIES),
        (dict(attention=None, self_attention=True), 3 * 4 * 2 * 16 * ENTRIES // 77),
        (dict(attention=None, patterns=["conv_in"]), 3 * 4 * 2 * 16 * 16 * 24),
        (dict(named=False), 3 * 4 * ENTRIES),
        (dict(named=False, attention="sum"), 8 * ENTRIES),
    ],
    ids=str,
)
def test_what_is_foreseen_is_what_is_kept(run, options, expected):
    rec = run(3, budget=expected, **options)
    assert kept_bytes(rec) == expected
    with pytest.raises(BudgetError):
        run(3, budget=expected - 1, **options)


def test_a_run_of_known_length_is_refused_in_its_first_forward(run):
    with pytest.raises(BudgetError) as error:
        run(50, budget=5_000_000)
    assert run.done == 0
    assert not run.rec.runs
    message = str(error.value)
    assert "would keep 9.6 MB, 4.6 MB over the budget of 5.0 MB: attention 9.6 MB" in message
    assert 'Pass attention="sum", run fewer steps, or pass budget="9.7 MB"' in message
    run(50, budget="9.7 MB", calls=1)


def test_forwards_of_nobody_are_refused_when_it_gets_there(run):
    with pytest.raises(BudgetError):
        run(50, named=False, budget=5 * 4 * ENTRIES)
    assert run.done == 5
    assert len(run.rec.timesteps) == 5


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (dict(attention="heads"), 'Pass attention="mean"'),
        (dict(attention="heads", halves="both"), 'Pass attention="mean" or halves="conditional"'),
        (dict(attention="sum"), "Pass attention=None"),
        (dict(self_attention=True, attention=None), "Drop self_attention=True"),
        (dict(patterns=["*"]), "Choose fewer modules than *"),
    ],
    ids=str,
)
def test_the_largest_kind_is_the_one_to_drop(run, options, advice):
    with pytest.raises(BudgetError, match=re.escape(advice)):
        run(2, budget="100 KB", **options)


def test_nothing_large_is_kept_on_the_way_to_the_error(run, monkeypatch):
    from unet_explained.recording import recorder

    copies = []
    real = recorder.copied
    monkeypatch.setattr(recorder, "copied", lambda value: copies.append(value) or real(value))
    with pytest.raises(BudgetError):
        run(2, patterns=["*"], budget="300 KB")
    assert 0 < recorder.size_of(copies) <= 150_000


def test_a_run_longer_than_it_said_is_counted_on(unet):
    with of_a_run(1), record(unet, budget=3 * 2 * ENTRIES):
        for _ in range(3):
            unet(*INPUTS)
        with pytest.raises(BudgetError):
            unet(*INPUTS)


def test_an_interrupted_forward_does_not_count(unet):
    def interrupt(module, args):
        raise KeyboardInterrupt

    with record(unet, budget=4 * ENTRIES):
        stop = unet.conv_out.register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            unet(*INPUTS)
        stop.remove()
        unet(*INPUTS)
        with pytest.raises(BudgetError):
            unet(*INPUTS)


def test_sizes_in_words():
    assert [to_bytes(size) for size in ("2GB", "1.5 kb", 7, "3 B")] == [2_000_000_000, 1500, 7, 3]
    assert [text(size) for size in (0, 999, 1500, 2 * 10**9)] == [
        "0.0 B",
        "999.0 B",
        "1.5 KB",
        "2.0 GB",
    ]
    assert to_bytes(text(5_301_000_000, up=True)) >= 5_301_000_000
    with pytest.raises(ValueError, match="500MB"):
        to_bytes("2 GiB")


def test_thirty_steps_of_sdxl_at_1024_fit_the_budget_or_are_refused_at_the_first():
    """Counted on the meta device, with the real sizes: one picture, guided, the default record."""
    with torch.device("meta"):
        unet = ux.UNet2DConditionModel(ux.UNetConfig.load("sdxl")).half()
        given = torch.zeros(2, 4, 128, 128).half(), torch.zeros(()), torch.zeros(2, 77, 2048).half()
        beside = {"text_embeds": torch.zeros(2, 1280).half(), "time_ids": torch.zeros(2, 6)}
    identity = Identity(Origin(30), (Row(role="unconditional"), Row(role="conditional")))
    with torch.no_grad(), record(unet, device="meta") as rec, identified(identity):
        unet(*given, added_cond_kwargs=beside)
    queries = {name: height * width for name, (height, width) in rec.layers.items()}
    assert len(queries) == 70
    assert size_of(rec.runs[0].steps[0].attention) == sum(queries.values()) * 77 * 2
    small = record(unet, device="meta", budget="400MB")
    told = pytest.raises(BudgetError, match=r'473\.1 MB.*Pass attention="sum"')
    with told, torch.no_grad(), small, identified(identity):
        unet(*given, added_cond_kwargs=beside)

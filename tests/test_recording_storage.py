"""A record is kept and taken along: what was saved is what is read."""

import json

import numpy as np
import pytest
import torch

import unet_explained as ux
from unet_explained.recording import Recording, record
from unet_explained.recording.packing import Packing
from unet_explained.recording.storage import STRUCTURE

PROMPT = "a red circle left of a red frog"


@pytest.fixture
def recorded(tiny_pipe):
    options = dict(halves="both", self_attention=True, stats=True)
    with record(tiny_pipe.unet, "mid_block", "down_blocks.0", **options) as rec:
        run = tiny_pipe(PROMPT, steps=2, negative_prompt="a house")
        unfinished = tiny_pipe.denoise("a green fish", steps=3)
        next(unfinished)
        given = run.recording.given(0)
        tiny_pipe.unet(given["sample"], 3, given["encoder_hidden_states"])
    return run, rec


def test_what_was_saved_is_what_is_read(recorded, tmp_path):
    _, rec = recorded
    loaded = Recording.load(rec.save(tmp_path / "record"))
    assert repr(loaded) == repr(rec)
    assert str(loaded.shapes) == str(rec.shapes)
    assert [run.finished for run in loaded.runs] == [True, False, None]
    for word, half in (
        ("red", "conditional"),
        ("red frog", "conditional"),
        ("house", "unconditional"),
    ):
        where = dict(run=0, half=half)
        assert torch.equal(loaded.attention(word, **where), rec.attention(word, **where))
    layer = "mid_block.attentions.0.transformer_blocks.0"
    assert torch.equal(
        loaded.self_attention(layer=f"{layer}.attn1", run=0),
        rec.self_attention(layer=f"{layer}.attn1", run=0),
    )
    assert torch.equal(
        loaded.weights(f"{layer}.attn2", run=1), rec.weights(f"{layer}.attn2", run=1)
    )
    for one, two in zip(loaded.values("down_blocks.0", run=0), rec.values("down_blocks.0", run=0)):
        assert torch.equal(one[0], two[0])
        assert all(map(torch.equal, one[1], two[1]))
    assert loaded.runs[0].stats == rec.runs[0].stats
    assert loaded.runs[0].timesteps == rec.runs[0].timesteps


def test_a_read_record_is_drawn_and_replayed(recorded, tiny_pipe, tmp_path):
    run, rec = recorded
    loaded = Recording.load(rec.save(tmp_path / "record"))
    assert ux.plot_heatmaps(run.image, loaded, run=0)._repr_png_()
    with pytest.raises(ValueError, match="the model that was recorded is gone: pass unet="):
        loaded.replay(0, run=0)
    again = loaded.replay(1, "mid_block", run=0, unet=tiny_pipe.unet)
    assert torch.equal(again["mid_block"][0], rec.values("mid_block", run=0)[1])


@pytest.mark.parametrize("attention", ["heads", "sum", None])
def test_every_kind_of_record(tiny_pipe, tmp_path, attention):
    with record(tiny_pipe.unet, attention=attention) as rec:
        tiny_pipe(PROMPT, steps=2)
    loaded = Recording.load(rec.save(tmp_path / "record"))
    assert loaded.options == rec.options
    if attention:
        assert torch.equal(loaded.attention("frog"), rec.attention("frog"))


def test_sums_as_older_records_count_them(unet, inputs, tmp_path):
    with record(unet, attention="sum") as rec:
        unet(*inputs)
        unet(*inputs)
    file = rec.save(tmp_path / "record") / STRUCTURE
    structure = json.loads(file.read_text())
    structure["runs"][0]["totals"][0][2] = 2
    file.write_text(json.dumps(structure))
    heats = (one.attention(token=3, picture=1) for one in (rec, Recording.load(file.parent)))
    assert torch.equal(*heats)


@pytest.mark.parametrize(
    ("number", "written"),
    [(np.int64(7), 7), (np.float32(7.5), 7.5), (np.float32("nan"), {"float": "nan"})],
)
def test_numbers_of_numpy_are_written_as_numbers(number, written):
    assert json.loads(json.dumps(Packing().value(number))) == written


def test_numbers_that_are_none_come_back(unet, inputs, tmp_path):
    unet.conv_norm_out.weight.data[0] = float("nan")
    with record(unet, stats=True) as rec:
        unet(*inputs)
    text = (rec.save(tmp_path / "record") / STRUCTURE).read_text()
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    stats = Recording.load(tmp_path / "record").stats["conv_norm_out"][0]
    assert stats.mean != stats.mean
    assert stats.nonfinite == rec.stats["conv_norm_out"][0].nonfinite > 0


def test_nothing_good_is_replaced_by_less(recorded, tmp_path, monkeypatch):
    _, rec = recorded
    folder = rec.save(tmp_path / "deep" / "record")
    before = (folder / STRUCTURE).read_bytes()
    rec.save(folder)

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("unet_explained.recording.storage.save_file", full)
    with pytest.raises(OSError, match="No space"):
        rec.save(folder)
    assert (folder / STRUCTURE).read_bytes() == before
    assert [file.name for file in folder.parent.iterdir()] == ["record"]


def test_what_is_no_recording_is_named(recorded, tmp_path):
    _, rec = recorded
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="mine is there and is no recording"):
        rec.save(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match="no recording there"):
        Recording.load(tmp_path / "mine")
    folder = rec.save(tmp_path / "record")
    structure = json.loads((folder / STRUCTURE).read_text()) | {"version": 3}
    (folder / STRUCTURE).write_text(json.dumps(structure))
    with pytest.raises(ValueError, match="a recording of version 3, expected 2"):
        Recording.load(folder)

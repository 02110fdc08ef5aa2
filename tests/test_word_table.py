"""Words in numbers and in files."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from pipelines import RED, build, run

import unet_explained as ux
from unet_explained.recording.word_table import measured
from unet_explained.show.export import export_heatmaps

PROMPT = "a red frog, a red circle"


def test_what_is_measured_of_a_map():
    heat = torch.zeros(4, 8)
    heat[1, 2] = heat[1, 3] = 0.5
    mass, peak, entropy, row, column = measured(heat)
    assert (mass, peak) == (1 / 32, 0.5)
    assert (entropy, row, column) == pytest.approx((1.0, 1.5 / 4, 3 / 8))
    assert measured(torch.full((4, 4), 0.2))[2:] == pytest.approx((4.0, 0.5, 0.5))
    assert all(map(math.isnan, measured(torch.zeros(2, 2))[2:]))


@pytest.mark.parametrize("attention", ["mean", "heads", "sum"])
def test_a_line_for_each_text_picture_layer_step_and_word(tiny_pipe, attention):
    with ux.record(tiny_pipe.unet, attention=attention, halves="both") as rec:
        tiny_pipe(PROMPT, steps=2, negative_prompt="a house")
        tiny_pipe("a fish", steps=1, guidance=1)
    table = rec.to_pandas()
    steps = 1 if attention == "sum" else 2
    assert len(table) == 16 * (steps * (6 + 2) + 2)
    second = table[(table.run == 0) & (table.half == "conditional") & (table.word == "red")]
    second = second[(second.occurrence == 1) & (second.layer == list(rec.runs[0].layers)[3])]
    assert len(second) == steps
    line = second.iloc[-1]
    step = None if attention == "sum" else 1
    heat = rec.attention("red", occurrence=1, run=0, layer=line.layer, step=step)
    found = line[["mass", "peak", "entropy", "row", "column"]].tolist()
    assert found == pytest.approx(measured(heat), rel=1e-5)
    assert set(table[table.half == "unconditional"].word) == {"a", "house"}


def no_attention(attn, x, encoder_hidden_states=None, attention_mask=None):
    """A processor that asks for keys and values, and gives its queries back."""
    for part in (attn.to_k, attn.to_v):
        part(encoder_hidden_states)
    return attn.to_out[0](attn.to_q(x))


def test_a_layer_whose_map_is_wrong_has_no_lines_of_any_of_its_calls():
    pipe, options = build("sd")
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2"
    attention, inside = pipe.unet.get_submodule(layer), []

    def twice(module, args, kwargs):
        if not inside:
            inside.append(True)
            module(*args, **kwargs)
            inside.clear()

    attention.register_forward_pre_hook(twice, with_kwargs=True)
    with ux.record(pipe) as rec:
        run(pipe, RED, **options)
        attention.processor = no_attention
        run(pipe, RED, **options)
    assert set(rec.failed) == {layer}
    assert f"{layer}#2" in rec.runs[0].layers
    assert not rec.to_pandas().layer.str.startswith(layer).any()


def test_a_record_without_attention_has_no_such_table(tiny_pipe):
    with ux.record(tiny_pipe.unet, attention=None) as rec:
        tiny_pipe(PROMPT, steps=1)
    with pytest.raises(ValueError, match="kept no attention"):
        rec.to_pandas()


def test_maps_as_files(tiny_pipe, tmp_path):
    with ux.record(tiny_pipe.unet) as rec:
        run = tiny_pipe("a red/blue frog", steps=1)
    folder = export_heatmaps(run.image, rec, tmp_path / "maps", layer="up_blocks*")
    about = json.loads((folder / "metadata.json").read_text())
    assert [each["word"] for each in about["words"]] == ["a", "red", "blue", "frog"]
    assert about["where"] == {"layer": "up_blocks*"}
    names = sorted(file.name for file in folder.iterdir())
    assert names == sorted(
        [f"{each['file']}.{kind}" for each in about["words"] for kind in ("png", "npz")]
        + ["metadata.json"]
    )
    heat = np.load(folder / f"{about['words'][3]['file']}.npz")["heat"]
    assert np.array_equal(heat, rec.attention("frog", layer="up_blocks*").numpy())
    assert Image.open(folder / "04-frog.png").size == run.image.size
    with pytest.raises(FileExistsError, match="name a new folder"):
        export_heatmaps(run.image, rec, folder)
    with pytest.raises(ValueError, match="no cross-attention fits"):
        export_heatmaps(run.image, rec, tmp_path / "other", layer="nowhere")
    assert [file.name for file in tmp_path.iterdir()] == ["maps"]

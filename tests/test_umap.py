"""The map of the U: every module once with the table's numbers, and what a run lets it answer."""

import base64
import io
import json
import re
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import TraitError

import unet_explained as ux
from unet_explained.widgets.umap import umap
from unet_explained.widgets.widget import Asked

pytestmark = pytest.mark.slow

NO_MID = {"mid_block_type": None, "cross_attention_dim": 768, "sample_size": 64}
SCALED = {"resnet_time_scale_shift": "scale_shift", "cross_attention_dim": 768}
DRAWN = r"((down_blocks|up_blocks)\.\d|mid_block)(\.(resnets|attentions|\w+samplers)\.\d)?|[a-z_]+"
HOSTILE = "a red circle </script><img src=x onerror=alert(1)>"


@pytest.fixture
def run(tiny_pipe):
    return tiny_pipe("a red circle left of a red square", steps=2, seed=0)


@pytest.fixture
def view(run):
    return umap(run)


@pytest.mark.parametrize("what", ["sdxl", "x4", "bundled", NO_MID])
def test_every_block_resnet_attention_and_sampler_stands_on_the_map_once(what):
    table, drawing = ux.shape_table(what), umap(what).drawing
    drawn = [each["name"] for each in drawing["boxes"] + drawing["blocks"]]
    expected = {row.name for row in table.rows if row.stage and re.fullmatch(DRAWN, row.name)}
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == expected
    for skip in drawing["skips"]:
        row = next(row for row in table.rows if row.name == skip["from"])
        assert row.skip == f"to {skip['to']}"
    assert len(drawing["skips"]) == sum(row.skip.startswith("to ") for row in table.rows)


@pytest.mark.parametrize("what", ["sdxl", "x4", "vega", NO_MID])
def test_nothing_stands_on_anything_else_or_outside(what):
    drawing = umap(what).drawing
    for kind in ("boxes", "blocks"):
        for i, one in enumerate(drawing[kind]):
            left, top, right, bottom = edges(one)
            assert min(left, top) >= 0, one
            assert right <= drawing["width"], one
            assert bottom <= drawing["height"], one
            for a, b, c, d in map(edges, drawing[kind][:i]):
                assert right <= a or left >= c or bottom <= b or top >= d, one


def edges(box: dict) -> tuple[float, ...]:
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


def test_the_modules_say_what_the_table_says():
    table, modules = ux.shape_table("sd15"), umap("sd15").modules
    top = [m for n, m in modules.items() if re.fullmatch(r"\w+_blocks\.\d|[a-z_]+", n)]
    assert sum(each["params"] for each in top) == table.total_params
    assert sum(each["flops_share"] for each in top) == pytest.approx(1)
    unet = ux.UNet2DConditionModel.from_config("bundled", seed=0)
    modules = umap(unet).modules
    for name in ("mid_block", "up_blocks.1.attentions.2", "down_blocks.0.resnets.0.conv1"):
        module = unet.get_submodule(name)
        assert modules[name]["kind"] == type(module).__name__
        assert modules[name]["params"] == sum(p.numel() for p in module.parameters())
    assert modules["up_blocks.1"]["parts"][:3] == ["resnets.0", "attentions.0", "resnets.1"]
    assert modules["conv_in"]["axes"][0] == ["batch", 2]


def test_an_attention_is_cross_if_it_is_given_the_prompt_whatever_its_sizes():
    for what, first in (("sd15", False), ({"only_cross_attention": True}, True)):
        block = "down_blocks.0.attentions.0.transformer_blocks.0"
        modules = umap(what).modules
        assert modules[f"{block}.attn1"]["cross"] == first
        assert modules[f"{block}.attn2"]["cross"]
        assert not modules["mid_block.attentions.0.transformer_blocks.0.attn1"]["cross"]


def test_every_part_of_an_inside_is_a_module():
    for what in ("sd15", SCALED):
        view = umap(what)
        for name, module in view.modules.items():
            for row in view.drawing["insides"].get(module["kind"], ()):
                parts = [row["part"]] if "part" in row else row.get("parts", row.get("side", []))
                for part in parts:
                    assert f"{name}.{part}" in view.modules
    ops = [row.get("op") for row in umap(SCALED).drawing["insides"]["ResnetBlock2D"]]
    assert "× +" in ops


def test_the_chosen_module_can_be_read_watched_and_set(view):
    seen = []
    view.observe(lambda change: seen.append(change["new"]), "selected")
    view.selected = "mid_block.resnets.0.conv1"
    view.selected = ""
    assert seen == ["mid_block.resnets.0.conv1", ""]
    with pytest.raises(TraitError, match=r"no module 'mid_bloc'; the closest: mid_block"):
        view.selected = "mid_bloc"
    with pytest.raises(TraitError, match="step: expected 0 to 1, got 2"):
        view.step = 2
    with pytest.raises(TraitError, match="activity needs a run"):
        umap("sd15").colour = "activity"


def test_the_source_names_the_einops_lines_with_their_patterns(view):
    code = view.answer({"source": "Attention"})[0]["codes"][0]
    lines = code["code"].splitlines()
    assert [line["pattern"] for line in code["einops"]][:3] == [
        "batch query (head head_dim) -> batch head query head_dim"
    ] * 3
    for line in code["einops"]:
        assert "rearrange(" in lines[line["first"] - 1]
    block = view.answer({"source": "CrossAttnUpBlock2D"})[0]["codes"]
    assert [each["name"] for each in block] == ["CrossAttnUpBlock2D", "UpBlock2D"]
    for kind in view.drawing["hints"]:
        assert view.drawing["hints"][kind]
        assert view.answer({"source": kind})[0]["codes"][0]["code"].startswith("class ")


def test_activity_is_the_root_mean_square_of_what_a_module_returns(run, view):
    found = view.answer({"activity": 1})[0]
    assert set(found) <= set(view.modules)
    twice = "mid_block.resnets.0.nonlinearity"  # the first time counts
    for name in ("conv_in", "mid_block.attentions.0", twice, "up_blocks.3.resnets.2", "conv_out"):
        output = run.replay(1, name)[name][0]
        assert found[name] == pytest.approx(output.pow(2).mean().sqrt().item(), rel=1e-3)
    assert found != view.answer({"activity": 0})[0]


def test_answers_asked_for_at_once_are_those_asked_for_in_turn(run):
    questions = [{"activity": 0}, {"activity": 1}, {"attention": "mid_block", "step": 1}]
    expected, view, found = [umap(run).answer(each) for each in questions], umap(run), {}

    def ask(index: int) -> None:
        found[index] = view.answer(questions[index])

    threads = [Thread(target=ask, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(3)] == expected


def test_feature_maps_are_the_half_that_was_given_the_prompt(run, view):
    name = "down_blocks.0.resnets.1"
    content, files = view.answer({"features": name, "step": 1, "first": 3})
    output = run.replay(1, name)[name][0][-1]
    assert content["count"] == len(output) == 16
    assert len(files) == len(content["texts"]) == 1 + 11
    for index, text, file in zip(range(3, 14), content["texts"][1:], files[1:]):
        picture = np.asarray(Image.open(io.BytesIO(file))).astype(int)
        assert picture.shape[:2] == tuple(output.shape[1:])
        red = picture[..., 0] > picture[..., 2]
        clear = output[index].abs() > 0.1 * output[index].abs().max()
        assert (torch.tensor(red) == (output[index] > 0))[clear].all()
        assert text.startswith(f"channel {index}, to ±")


@pytest.mark.parametrize("part", ["", ".attn1", ".attn2.attend", ".ff.net.0.proj", ".norm2"])
def test_a_sequence_of_pixels_is_shown_as_a_picture(view, part):
    name = "down_blocks.1.attentions.0.transformer_blocks.0" + part
    _, files = view.answer({"features": name, "step": 0, "first": 0})
    assert Image.open(io.BytesIO(files[1])).size == (4, 4)


def test_attention_shows_each_word_on_one_scale_and_the_first_picture(run, view):
    name = "up_blocks.1.attentions.0"
    content, files = view.answer({"attention": name, "step": 1})
    assert [text.split(",")[0] for text in content["texts"][1:]] == list(run.prompt.words)
    assert content["layers"] == [f"{name}.transformer_blocks.0.attn2"]
    recording = run.replay(1)
    maps = [
        recording.attention("red", layer=f"{name}*", occurrence=occurrence) for occurrence in (0, 1)
    ]
    assert f"{maps[1].max():.2g}" in content["texts"][7]
    assert len(files) == 9
    own = view.answer({"attention": f"{name}.transformer_blocks.0.attn1", "step": 1})
    assert own[0]["kind"] == "self"
    assert view.answer({"attention": "up_blocks.1", "step": 1})[0]["kind"] == "cross"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"features": "time_embedding", "step": 0, "first": 0}, "no height and width"),
        ({"features": "conv", "step": 0, "first": 0}, "no module 'conv'; the closest: conv_"),
        ({"attention": "conv_in", "step": 0}, "no attention in it"),
        ({"activity": 2}, "this run has steps 0 to 1"),
        ({"source": "os"}, "has no answer"),
        ({}, "has no answer"),
    ],
)
def test_what_there_is_not_is_said_in_words(view, asked, words):
    with pytest.raises(Asked, match=words):
        view.answer(asked)


def test_without_a_run_activity_is_refused_in_words():
    with pytest.raises(Asked, match="needs a run"):
        umap("bundled").answer({"activity": 0})


def test_it_takes_what_shape_table_takes_and_refuses_the_rest(tiny_pipe, run):
    assert umap(tiny_pipe).modules.keys() == umap(tiny_pipe.unet).modules.keys()
    assert umap("sd15", height=32, width=48).modules["conv_in"]["axes"][2:] == [
        ["height", 32], ["width", 48],
    ]  # fmt: skip
    with pytest.raises(TypeError, match=r"expected a Run, a Recording, a pipeline, .* got int"):
        umap(15)
    with pytest.raises(ValueError, match="'sd51' is no preset"):
        umap("sd51")
    with pytest.raises(TypeError, match="not depth"):
        umap("sd15", depth=2)
    with pytest.raises(TypeError, match="a run has its own height"):
        umap(run, height=8)


def test_where_no_kernel_runs_there_is_a_picture_and_a_page(tiny_pipe, tmp_path):
    view = umap(tiny_pipe(HOSTILE, steps=1, seed=0))
    data, _ = view._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    text = view.to_html(tmp_path / "u.html").read_text(encoding="utf-8")
    assert "<img" not in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    saved = json.loads(re.search(r'id="saved">(.*?)</script>', text, re.DOTALL).group(1))
    asked = [each[0] for each in saved["answers"]]
    assert {"activity": 0} in asked
    assert {"source": "Transformer2DModel"} in asked
    assert HOSTILE in saved["state"]["title"]

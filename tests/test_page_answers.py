"""What the page shows of a run, field by field, against the Python that it stands in for."""

import io
import json
import shutil
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unet_explained as ux
from unet_explained.page import build
from unet_explained.page.export import OpenUNet
from unet_explained.page.facts import facts_of
from unet_explained.page.saved import saved_run
from unet_explained.run.text import embed, read_prompt
from unet_explained.widgets.modules import joined
from unet_explained.widgets.subject_maps import columns_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="needs node (apt-get install nodejs)"),
]
PROMPT, SEED, STEPS = "a red house left of a red tree", 1, 2
SCRIPT = Path(__file__).parent / "page_answers.mjs"


@pytest.fixture(scope="module")
def pipe():
    return ux.load(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def both(pipe, tmp_path_factory):
    """Python's run, its pool, what it says of self-attention; and what the scripts say."""
    saved, pool = saved_run(pipe, PROMPT, SEED, steps=STEPS)
    facts = facts_of(pipe, saved)
    opened = OpenUNet(pipe.unet, facts["parts"]).eval()
    texts = [read_prompt(text, pipe.tokenizer) for text in ("", PROMPT)]
    told = [columns_of(text, 77) for text in texts]
    columns = torch.zeros(2, 77, max(map(len, told)))
    for row, found in enumerate(told):
        for number, column in enumerate(found):
            columns[row, list(column.tokens), number] = 1
    context = torch.cat([embed(text, pipe.text_encoder) for text in texts])

    @torch.no_grad()
    def outputs(sample, timestep, rows, place=(0.0, 0.0), gave=False) -> dict:
        count = len(context[rows])
        found = opened(
            sample.repeat(count, 1, 1, 1), torch.tensor([timestep]).float(),
            context[rows], columns[rows], torch.tensor(place),
        )  # fmt: skip
        pairs = zip(opened.outputs, found, strict=True)
        return {
            name: {"data": packed(x), "dims": [*x.shape]}
            for name, x in pairs
            if (name in opened.parts) == gave
        }

    steps = list(pipe.denoise(PROMPT, seed=SEED, steps=STEPS))
    forwards = [
        {"timestep": step.timestep, "outputs": outputs(step.sample, step.timestep, slice(None))}
        | {n: packed(getattr(step, n)) for n in ("sample", "prediction", "denoised")}
        for step in steps
    ]
    run = pipe(PROMPT, seed=SEED, steps=STEPS)
    view = ux.explore(run)
    looks = [
        {"self": {"row": 40, "column": 12, "layer": layer, "step": 0, "half": half}}
        for layer in ("*", "mid_block*", facts["layers"][3]["name"])
        for half in ("conditional", "unconditional")
    ]
    place, (first, last) = (40.5 / 64, 12.5 / 64), steps
    rows = {"unconditional": slice(0, 1), "conditional": slice(1, 2)}
    given = {
        "facts": facts, "forwards": forwards, "prompt": PROMPT,
        "before": {"about": saved["explorer"]["state"]["about"]},
        "asked": [asked for asked, *_ in saved["explorer"]["kept"]] + looks,
        "look": {k: outputs(first.sample, first.timestep, r, place) for k, r in rows.items()},
        "map": saved["map"], "askedMap": asked_of_map(saved["map"]),
        "gave": outputs(last.sample, last.timestep, rows["conditional"], gave=True),
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("scripts")
    found = _in_node(folder, given)
    expected = [
        (content, [pool[start : start + length] for start, length in places])
        for _, content, places in saved["explorer"]["kept"]
    ]
    expected_map = ux.umap(run)
    answers = [(asked, expected_map.answer(asked)) for asked in given["askedMap"]]
    found["map"] = expected_map.state_of_page(), answers, found["state"], found["map"]
    return saved, pool, expected + [view.answer(asked) for asked in looks], found


def asked_of_map(kept: dict) -> list[dict]:
    """Of the last step."""
    of = {"step": STEPS - 1}
    sources = [{"source": kind} for kind in kept["sources"]]
    features = [
        {"features": name, "first": first} | of
        for name in ("conv_in", "down_blocks.1.attentions.0", "mid_block.resnets.1", "conv_out")
        for first in (0, 11)
    ]
    attention = [
        {"attention": name} | of
        for name in ("down_blocks.0", "mid_block.attentions.0.transformer_blocks.0.attn2")
    ]
    activity = [{"activity": step} for step in range(STEPS)]
    return [*sources, *activity, {"through": STEPS - 1}, *features, *attention]


def packed(tensor: torch.Tensor) -> str:
    return b64encode(tensor.numpy().tobytes()).decode()


def _in_node(folder, given: dict) -> dict:
    modules = {}
    for name in ("tokenizer", "denoise", "maps", "frames", "about", "boxes"):
        (folder / f"{name}.mjs").write_text(joined(name, build.HERE))
        modules[name] = (folder / f"{name}.mjs").as_uri()
    (folder / "given.json").write_text(json.dumps(given | {"modules": modules}))
    command = ["node", SCRIPT, folder / "given.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def same(found, expected) -> None:
    """Names and texts are equal, and numbers within a thousandth of themselves."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            same(found[name], expected[name])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-6)
    else:
        assert found == expected


def levels(found: list[int], expected: bytes) -> None:
    """At most one of 255 apart."""
    wanted = np.frombuffer(expected, np.uint8).astype(int)
    assert np.abs(np.array(found) - wanted).max(initial=0) <= 1


def test_each_frame_of_a_run(both):
    saved, pool, _, found = both
    for (content, buffers), frame in zip(found["frames"], saved["frames"], strict=True):
        expected = {k: v for k, v in frame["content"].items() if k != "index"}
        modules = expected.pop("modules")
        order = [content["modules"].index(name) for name in modules]
        assert sorted(order) == list(range(len(order)))
        del content["modules"]
        same(content, expected)
        wanted = [
            b64decode(each) if isinstance(each, str) else pool[each[0] : sum(each)]
            for each in frame["buffers"]
        ]
        buffers[2] = [buffers[2][place] for place in order]  # the page tells them as it draws them
        for values, data in zip(buffers, wanted, strict=True):
            levels(values, data)


def test_what_an_explorer_is_told(both):
    saved, *_, found = both
    same(found["about"], saved["explorer"]["state"]["about"])
    same(found["first"], saved["explorer"]["state"]["first"])


def test_each_answer_of_an_explorer(both):
    *_, expected, found = both
    assert len(found["answers"]) == len(expected) > 40
    for (content, buffers), (wanted, data) in zip(found["answers"], expected, strict=True):
        same(content, wanted)
        for values, each in zip(buffers, data, strict=True):
            levels(values, each)


def test_what_a_map_of_the_u_is_told(both):
    expected, _, state, _ = both[-1]["map"]
    answers = state.pop("answers"), expected.pop("answers")
    assert answers[0] | {"features": None, "self": True} == answers[1]
    assert len(answers[0]["features"]) == 48  # of the boxes, those that give a map
    same(state, expected)


def test_each_answer_of_a_map_of_the_u(both):
    _, expected, _, found = both[-1]["map"]
    for (content, buffers), (asked, (wanted, files)) in zip(found, expected, strict=True):
        if "activity" in asked:
            wanted = {name: wanted[name] for name in content}
            assert len(wanted) == 50
        same(content, wanted)
        turned = 1 if "features" in asked else len(files) if "through" in asked else 0
        for number, (values, file) in enumerate(zip(buffers, files, strict=True)):
            if values:  # a run's own picture comes as it is
                alike(values, file, either_way=number < turned)


def alike(found: list[int], file: bytes, either_way: bool) -> None:
    """Three colours a place, at most a few levels apart; a direction may be told either way."""
    picture = np.asarray(Image.open(io.BytesIO(file))).astype(int)
    values = np.array(found[2:]).reshape(*found[:2], 3)
    for one, other in zip(np.moveaxis(values, 2, 0), np.moveaxis(picture, 2, 0), strict=True):
        apart = [np.abs(one - other).max()]
        if either_way:
            apart.append(np.abs(255 - one - other).max())
        assert min(apart) <= 8

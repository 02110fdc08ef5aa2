"""What the page shows of a run, field by field, against the Python that it stands in for."""

import json
import shutil
import subprocess
from base64 import b64decode

import numpy as np
import pytest
import torch

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
SCRIPT = """
import { readFileSync } from "node:fs";
const given = JSON.parse(readFileSync(process.argv[1]));
const { reader } = await import(given.modules.tokenizer);
const { columnsOf } = await import(given.modules.denoise);
const { wordMaps } = await import(given.modules.maps);
const { frameOf } = await import(given.modules.frames);
const { exploredState, answering } = await import(given.modules.about);
const { facts, forwards } = given, read = reader(facts.tokenizer);
const numbers = ({ data, dims }) => ({ data: Float32Array.from(data), dims });
const each = (object, change) =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]));
const seen = (outputs) => each(outputs, numbers);
const rows = ["unconditional", "conditional"].map((role) => {
  const text = read(role === "conditional" ? given.prompt : "");
  return { role, text, columns: columnsOf(text, facts.tokens) };
});
const run = { batch: { rows, latents: facts.latents }, forwards, picture: null };
const look = async (batch) => seen(given.look[batch.rows[0].role]);
const maps = wordMaps(run, facts.layers, look);
forwards.forEach((forward, step) => maps.keep(step, seen(forward.outputs)));
const plain = ({ content, buffers }) => [content, (buffers ?? []).map((each) => [...each])];
const frames = forwards.map(({ timestep, outputs, ...latents }, index) => plain(frameOf({
  index, total: forwards.length, timestep, seen: seen(outputs),
  ...each(latents, (values) => Float32Array.from(values)),
}, run.batch, facts, 0)));
const { about, first } = await exploredState(run, maps, facts, (name) => given.before[name]);
const answer = answering(run, facts, maps, look), answers = [];
for (const asked of given.asked) answers.push(plain(await answer(asked)));
console.log(JSON.stringify({ frames, about, first, answers }));
"""


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
    def outputs(sample, timestep, rows, place=(0.0, 0.0)) -> dict:
        count = len(context[rows])
        found = opened(
            sample.repeat(count, 1, 1, 1), torch.tensor([timestep]).float(),
            context[rows], columns[rows], torch.tensor(place),
        )  # fmt: skip
        pairs = zip(opened.outputs, found, strict=True)
        return {name: {"data": x.flatten().tolist(), "dims": [*x.shape]} for name, x in pairs}

    forwards = [
        {"timestep": step.timestep, "outputs": outputs(step.sample, step.timestep, slice(None))}
        | {n: getattr(step, n).flatten().tolist() for n in ("sample", "prediction", "denoised")}
        for step in pipe.denoise(PROMPT, seed=SEED, steps=STEPS)
    ]
    run = pipe(PROMPT, seed=SEED, steps=STEPS)
    view = ux.explore(run)
    looks = [
        {"self": {"row": 40, "column": 12, "layer": layer, "step": 0, "half": half}}
        for layer in ("*", "mid_block*", facts["layers"][3]["name"])
        for half in ("conditional", "unconditional")
    ]
    first = torch.tensor(forwards[0]["sample"]).reshape(1, 4, 64, 64)
    place = (40.5 / 64, 12.5 / 64)
    rows = {"unconditional": slice(0, 1), "conditional": slice(1, 2)}
    given = {
        "facts": facts, "forwards": forwards, "prompt": PROMPT,
        "before": {"about": saved["explorer"]["state"]["about"]},
        "asked": [asked for asked, *_ in saved["explorer"]["kept"]] + looks,
        "look": {k: outputs(first, forwards[0]["timestep"], r, place) for k, r in rows.items()},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("scripts")
    found = _in_node(folder, given)
    expected = [
        (content, [pool[start : start + length] for start, length in places])
        for _, content, places in saved["explorer"]["kept"]
    ]
    return saved, pool, expected + [view.answer(asked) for asked in looks], found


def _in_node(folder, given: dict) -> dict:
    modules = {}
    for name in ("tokenizer", "denoise", "maps", "frames", "about"):
        (folder / f"{name}.mjs").write_text(joined(name, build.HERE))
        modules[name] = (folder / f"{name}.mjs").as_uri()
    (folder / "given.json").write_text(json.dumps(given | {"modules": modules}))
    (folder / "script.mjs").write_text(SCRIPT.replace("argv[1]", "argv[2]"))
    command = ["node", folder / "script.mjs", folder / "given.json"]
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

"""The page's scripts against the Python that they stand in for, in node."""

import json
import random
import shutil
import subprocess
import unicodedata

import pytest
import torch

import unet_explained as ux
from unet_explained import diffusion
from unet_explained.page import build
from unet_explained.page.facts import tokenizer_of
from unet_explained.run.advance import advance
from unet_explained.run.text import read_prompt
from unet_explained.widgets.first_word import LINKS, first_thing
from unet_explained.widgets.modules import joined
from unet_explained.words import nearest

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="needs node (apt-get install nodejs)"
)
WORDS = [
    "a", "red", "house", "left", "of", "the", "green", "tree", "İstanbul", "Σοφός", "don't",
    "it's", "'tis", "<|endoftext|>", "漢字", "０", "½", "<|STARTOFTEXT|>", "éa", "ä́", "ﬁsh",
    "١٢", "x_y-z", "👩\u200d👩\u200d👧", "\u200d", "\xa0", "\u2028", "\x85", "ß", "ẞ", "!", "??",
    "...", "''s", "we'll", "I'VE", "don’t", "well-known", "日本", "\t", "\n", "ཀྵ", "क्षि", "ไทย",
    "ǅ", "ſ", "K", "_", "--", "\\", '"', "'", "`", "<b>", "&", "%s", "{x}", "$", "©", "가", "각",
]  # fmt: skip


@pytest.fixture(scope="module")
def pipe():
    return ux.load(device="cpu")


@pytest.fixture
def computed(tmp_path):
    """What an expression over a script's exports (`it`) and some JSON (`given`) is."""

    def evaluate(script: str, expression: str, given=None):
        module, data = tmp_path / f"{script}.mjs", tmp_path / "given.json"
        module.write_text(joined(script, build.HERE))
        data.write_text(json.dumps(given))
        code = f"""import * as it from {module.as_uri()!r};
            import {{ readFileSync }} from "node:fs";
            const given = JSON.parse(readFileSync({str(data)!r}));
            console.log(JSON.stringify({expression}));"""
        command = ["node", "--input-type=module", "-e", code]
        done = subprocess.run(command, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    return evaluate


def texts(count: int) -> list[str]:
    """Of words, of characters from everywhere, and longer than the encoder reads."""
    rng = random.Random(0)
    known = [chr(i) for i in range(32, 0x1FB00) if unicodedata.category(chr(i)) not in ("Cn", "Cs")]

    def one() -> str:
        kind = rng.random()
        if kind < 0.3:
            return "".join(rng.choices(known[:600], k=rng.randrange(40)))
        if kind < 0.5:
            return "".join(rng.choices(known, k=rng.randrange(40)))
        between = rng.choice([" ", "", "  ", ", "])
        return between.join(rng.choices(WORDS, k=rng.randrange(14 if kind < 0.9 else 90)))

    return [one() for _ in range(count)]


@pytest.mark.filterwarnings("ignore:the prompt is longer")
def test_a_prompt_is_read_as_python_reads_it(pipe, computed):
    given = texts(1000)
    assert any(len(read_prompt(text, pipe.tokenizer).spans) > 20 for text in given)
    found = computed(
        "tokenizer", "given.texts.map(it.reader(given.tokenizer))",
        {"tokenizer": tokenizer_of(pipe.tokenizer), "texts": given},
    )  # fmt: skip
    for text, read in zip(given, found, strict=True):
        prompt = read_prompt(text, pipe.tokenizer)
        assert read["ids"] == prompt.ids[0].tolist(), text
        assert read["tokens"] == list(prompt.tokens), text
        spans = [{"text": word.text, "tokens": list(word.tokens)} for word in prompt.spans]
        assert read["words"] == spans, text


def test_a_seed_is_the_same_noise(computed):
    rng = random.Random(0)
    seeds = [0, 1, 2**53 - 1, -1, *(rng.randrange(2**53) for _ in range(996))]
    pairs = computed("random", "given.map((seed) => [...it.randn(seed, 64)])", seeds)
    for seed, values in zip(seeds, pairs, strict=True):
        expected = torch.randn(64, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(torch.tensor(values), expected, rtol=0, atol=5e-6)
    # Past the first 624 numbers of the twister, too.
    last = computed("random", "[...it.randn(7, 16384).slice(-64)]")
    expected = torch.randn(16384, generator=torch.Generator().manual_seed(7))[-64:]
    torch.testing.assert_close(torch.tensor(last), expected, rtol=0, atol=5e-6)


def test_the_timesteps_are_the_schedulers(pipe, computed):
    found = computed("ddim", "Array.from({ length: 1000 }, (_, i) => it.timesteps(i + 1))")
    for steps, timesteps in enumerate(found, 1):
        pipe.scheduler.set_timesteps(steps)
        assert timesteps == pipe.scheduler.timesteps.tolist(), steps


@pytest.mark.parametrize("steps", [1, 3, 16, 61])
def test_a_step_is_the_schedulers(pipe, computed, steps):
    pipe.scheduler.set_timesteps(steps)
    latents, prediction = torch.randn(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    alphas = pipe.scheduler.alphas_cumprod.tolist()
    given = torch.stack([latents, prediction]).flatten(1).tolist()
    times = pipe.scheduler.timesteps.tolist()
    made = computed(
        "ddim",
        "given.times.map((time) => it.advance("
        "...given.both.map((each) => Float32Array.from(each)), time, given.steps, given.alphas"
        ")).map(({ latents, clean }) => [[...latents], [...clean]])",
        {"both": given, "times": times, "steps": steps, "alphas": alphas},
    )
    for timestep, found in zip(pipe.scheduler.timesteps, made, strict=True):
        expected = advance(pipe.scheduler, prediction, timestep, latents, None)
        for values, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.tensor(values), wanted.flatten(), rtol=0, atol=2e-6)


def test_guidance_is_the_formula(computed):
    both = torch.randn(2, 1, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    found = computed("ddim", "it.guided(...given)", [*both.flatten(1).tolist(), 3.5])
    expected = diffusion.guided(*both, 3.5)
    torch.testing.assert_close(torch.tensor(found), expected.flatten())


def test_the_word_that_is_shown_first_is_the_same(computed):
    given = [text.split() for text in texts(200)] + [["the", "red", "fish", "left", "of"]]
    found = computed("about", "given[0].map((words) => it.firstThing(words, given[1]))",
                     [given, LINKS.split()])  # fmt: skip
    assert found == [first_thing(words) for words in given]


@pytest.mark.parametrize("length", range(9))
def test_parts_in_text_are_the_bytes(computed, length):
    data = random.Random(length).randbytes(1000 + length)
    found = computed("parts", "[...it.decoded(given)]", build.as_text(data))
    assert bytes(found) == data
    assert "<" not in build.as_text(data)


@pytest.mark.parametrize("length", [0, 1, 6, 7])
def test_a_network_in_halves_is_the_network(computed, length):
    data = random.Random(length).randbytes(length)
    given = list(build.halves(data))
    assert bytes(computed("parts", "[...it.woven(given)]", given)) == data


@pytest.mark.parametrize(
    "prompt",
    [
        "a red house", "two houses", "3 red fishes", "a dog and a red house", "a pink house",
        "a house on a red ground", "red and green", "asdf 7", "seven", "",
        "a tree on a grey ground", "hose mouse",
        "butterfrog flies treehouse starfish housefish " + "butter" * 32,
    ],
)  # fmt: skip
def test_what_is_said_of_words_is_what_python_says(pipe, computed, prompt):
    read = read_prompt(prompt, pipe.tokenizer)
    words = [{"text": word} for word in read.words]
    given = [{"words": words, "cutOff": []}, pipe.palette.groups]
    found = computed("asked", "[it.notesOf(...given), it.doubtOf(...given)]", given)
    assert found == [list(pipe.palette.notes(read.words)), pipe.palette.doubt(read.words)]


def test_the_nearest_thing_is_pythons(computed, pipe):
    things, chance = pipe.palette.things, random.Random(0)
    given = ["".join(chance.choices("aehosty", k=5)) for _ in range(500)]
    found = computed(
        "nearest", "given[0].map((word) => it.nearest(word, given[1]))", [given, things]
    )
    assert found == [next(iter(nearest(word, things)), None) for word in given]
    assert len(set(found)) > 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1 to 1000, got 0"),
        ({"steps": 2.5}, "steps: expected"),
        ({"seed": 2**53}, "seed: expected a whole number"),
        ({"guidance": -1}, "guidance: expected a number from 0"),
        ({"guidance": 1e9}, "guidance: expected a number from 0"),
        ({"prompt": "half \ud83d"}, "prompt: it holds half of a character"),
    ],
)
def test_what_does_not_fit_is_said(computed, change, said):
    asked = {"prompt": "a fish", "seed": 0, "steps": 20, "guidance": 3.5} | change
    code = (
        "(() => { try { it.check(given); return null } catch (error) { return error.message } })()"
    )
    assert computed("asked", code, asked).startswith(said)
    assert computed("asked", code, {"prompt": "", "seed": -5, "steps": 1, "guidance": 0}) is None

"""Texts that come to the UNet by other ways than a prompt: known where they are, and else said."""

import copy

import pytest
import torch
from kernels import Kernels
from pipeline_cases import KEYS, TRIANGLE, embedding
from pipelines import FISH, FROG, RED, WIDTHS, build, run

import unet_explained as ux
from unet_explained.run.reader import own_copy

LONG = " ".join([RED] * 11 + [FISH])  # 91 tokens; the 76th begins the second 77 positions


def recorded(pipe, prompt, **options):
    """A run seen in its kernels, the same run recorded."""
    with Kernels(pipe.unet) as truth:
        expected = run(pipe, prompt, **options)
    with ux.record(pipe, attention="heads", halves="both") as rec:
        assert torch.equal(run(pipe, prompt, **options), expected)
    return truth, rec


def words(row) -> list[str]:
    return [] if row.text is None else row.text.text.split()


def of_row(rec, step: int, row: int) -> dict:
    """How a row is asked for: by its role and picture, or by its place where nobody knows them."""
    one = rec.runs[0].steps[step].batch[row]
    picture = row if one.picture is None else one.picture
    return dict(step=step, picture=picture, half=one.role or "conditional")


def points_at(rec, truth, row: int, word: str, tokens: tuple[int, ...]) -> None:
    """A word of a row is at these keys, at every step and layer."""
    for step in range(len(truth.forwards)):
        for layer, size in truth.sizes.items():
            expected = truth.mean(step, layer, row)[:, list(tokens)].sum(dim=1).view(size)
            actual = rec.attention(word, layer=layer, **of_row(rec, step, row))
            torch.testing.assert_close(actual.double(), expected, atol=4e-3, rtol=0)


def test_a_negative_prompt_that_equals_the_prompt_is_told_to_be_ambiguous():
    pipe, options = build("sd")
    truth, rec = recorded(pipe, RED, negative_prompt=RED, **options)
    assert torch.equal(truth.contexts[0][0], truth.contexts[0][1])
    rows = rec.runs[0].steps[0].batch
    assert [row.text.text for row in rows] == [RED, RED]
    roles = [row.role for row in rows]
    assert roles in ([None, None], ["unconditional", "conditional"])
    assert rec.unknown
    for row in (0, 1):
        points_at(rec, truth, row, "circle", (3,))


def test_sdxls_second_prompt_is_searched_too():
    pipe, options = build("xl")
    truth, rec = recorded(pipe, RED, prompt_2=TRIANGLE, negative_prompt=FISH, **options)
    expected = embedding(pipe, RED, TRIANGLE)
    torch.testing.assert_close(truth.contexts[0][1], expected, atol=1e-5, rtol=0)
    points_at(rec, truth, 1, "circle", (3,))
    points_at(rec, truth, 1, "butterfly", (9, 10))
    points_at(rec, truth, 1, "triangle", (3, 4))
    points_at(rec, truth, 0, "fish", (3,))
    assert "circle" in words(rec.runs[0].steps[0].batch[1])


def test_a_textual_inversion_of_two_vectors_is_one_word():
    pipe, options = build("sd")
    pipe.tokenizer, pipe.text_encoder = map(copy.deepcopy, (pipe.tokenizer, pipe.text_encoder))
    torch.manual_seed(0)
    pipe.load_textual_inversion(torch.randn(2, WIDTHS[0]), token="<thing>")
    truth, rec = recorded(pipe, "a <thing> left of a blue square", **options)
    points_at(rec, truth, 1, "<thing>", (2, 3))
    points_at(rec, truth, 1, "square", (8,))
    assert rec.unknown == []


def test_an_inversion_in_the_place_of_another_is_read_by_its_own_name():
    """Records share a copy of the tokenizer, which has to be as this one is now."""
    pipe, options = build("sd")
    pipe.tokenizer, pipe.text_encoder = map(copy.deepcopy, (pipe.tokenizer, pipe.text_encoder))
    copies = []
    for name in ("<one>", "<one>", "<two>"):
        pipe.load_textual_inversion(torch.ones(1, WIDTHS[0]), token=name)
        with ux.record(pipe) as rec:
            run(pipe, f"a {name} and a fish", **options)
        assert [word.text for word in rec.text().spans] == ["a", name[1:-1], "and", "a", "fish"]
        assert rec.text().tokens[2] == name
        with own_copy(pipe.tokenizer) as own:
            copies.append(own)
        pipe.unload_textual_inversion()
    assert copies[0] is copies[1] is not copies[2]


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_clip_skip(kind):
    pipe, options = build(kind)
    if kind == "sd" and not hasattr(pipe.text_encoder, "text_model"):
        # Which diffusers looks for, and the newest transformers' encoder is itself.
        pipe.text_encoder = copy.deepcopy(pipe.text_encoder)
        object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    truth, rec = recorded(pipe, RED, negative_prompt=FROG, clip_skip=1, **options)
    assert not torch.allclose(truth.contexts[0][1], embedding(pipe, RED), atol=1e-2)
    rows = rec.runs[0].steps[0].batch
    assert [(row.text.text, row.role) for row in rows] == [
        (FROG, "unconditional"),
        (RED, "conditional"),
    ]
    points_at(rec, truth, 1, "circle", (3,))
    assert rec.unknown == []


def compel_of(pipe):
    module = pytest.importorskip("compel", reason="pip install --no-deps compel pyparsing")
    return module.Compel(pipe.tokenizer, pipe.text_encoder, truncate_long_prompts=False)


WEIGHTED = {
    "plain": (RED, RED, "circle", (3,)),
    "long": (LONG, LONG, "fish", (77 + 16,)),
    "more of a word": ("a (red)1.5 circle", "a red circle", "red", (2,)),
    "less of a word": ("a (red)0.5 circle", None, "red", (2,)),
    "a blend": (f'("{RED}", "{FISH}").blend(0.5, 0.5)', None, "fish", (3,)),
}


@pytest.mark.parametrize("name", WEIGHTED)
@torch.no_grad()
def test_embeddings_that_compel_makes_within_the_with(name):
    pipe, options = build("sd")
    said, text, word, tokens = WEIGHTED[name]

    def call():
        compel = compel_of(pipe)
        embeds, negative = compel.pad_conditioning_tensors_to_same_length(
            [compel(said), compel("")]
        )
        return run(pipe, None, prompt_embeds=embeds, negative_prompt_embeds=negative, **options)

    with Kernels(pipe.unet) as truth:
        expected = call()
    with ux.record(pipe, attention="heads", halves="both") as rec:
        assert torch.equal(call(), expected)
    row = rec.runs[0].steps[0].batch[1]
    if text is None:
        assert row.text is None
        assert rec.unknown
        with pytest.raises(ValueError, match=r"name\("):
            rec.attention(word, **of_row(rec, 0, 1))
    else:
        assert words(row) == text.split()
        assert rec.unknown == []
        points_at(rec, truth, 1, word, tokens)


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_embeddings_of_the_pipelines_own_making_within_the_with(kind):
    pipe, options = build(kind)

    def call():
        return run(pipe, None, **encoded(pipe), **options)

    with Kernels(pipe.unet) as truth:
        expected = call()
    with ux.record(pipe, attention="heads", halves="both") as rec:
        assert torch.equal(call(), expected)
    rows = rec.runs[0].steps[0].batch
    assert [(row.text.text, row.role) for row in rows] == [
        (FROG, "unconditional"),
        (RED, "conditional"),
    ]
    assert rec.unknown == []
    points_at(rec, truth, 1, "circle", (3,))


@pytest.mark.parametrize("when", ["before the run", "after the run", "after the with"])
@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_embeddings_from_before_the_with_are_unknown_until_they_are_named(kind, when):
    pipe, options = build(kind)
    given = encoded(pipe)
    with Kernels(pipe.unet) as truth:
        run(pipe, None, **given, **options)

    def name_them():
        rec.name(given["prompt_embeds"], RED)
        rec.name(given["negative_prompt_embeds"], FROG)

    with ux.record(pipe, attention="heads", halves="both") as rec:
        if when == "before the run":
            name_them()
        run(pipe, None, **given, **options)
        if when != "before the run":
            assert [row.text for row in rec.runs[0].steps[0].batch] == [None, None]
            assert any("name(" in sentence for sentence in rec.unknown)
            with pytest.raises(ValueError, match=r"name\("):
                rec.attention("circle", **of_row(rec, 0, 1))
        if when == "after the run":
            name_them()
    if when == "after the with":
        name_them()
    assert [row.text.text for row in rec.runs[0].steps[0].batch] == [FROG, RED]
    assert rec.unknown == []
    points_at(rec, truth, 1, "circle", KEYS[RED]["circle"][0])
    points_at(rec, truth, 0, "frog", KEYS[FROG]["frog"][0])


def encoded(pipe) -> dict[str, torch.Tensor]:
    """What a pipeline's own encode_prompt gives, by the names under which its call takes it."""
    made = pipe.encode_prompt(
        prompt=RED, negative_prompt=FROG, device="cpu", num_images_per_prompt=1,
        do_classifier_free_guidance=True,
    )  # fmt: skip
    names = ["prompt_embeds", "negative_prompt_embeds"]
    names += ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    return dict(zip(names, made))


def test_a_loop_of_somebodys_own():
    pipe, _ = build("sd")

    @torch.no_grad()
    def loop():
        made = [
            pipe.text_encoder(
                pipe.tokenizer(text, padding="max_length", return_tensors="pt").input_ids
            )[0]
            for text in (RED, FISH)
        ]
        latents = torch.ones(2, 4, 8, 8)
        for timestep in (900, 500):
            latents = pipe.unet(latents, timestep, torch.cat(made)).sample
        return latents

    with Kernels(pipe.unet) as truth:
        expected = loop()
    with ux.record(pipe, attention="heads", halves="both") as rec:
        assert torch.equal(loop(), expected)
    assert len(rec.runs) == 1
    assert rec.runs[0].finished is None
    assert rec.timesteps == [900, 500]
    for step in rec.runs[0].steps:
        assert [words(row) for row in step.batch] == [RED.split(), FISH.split()]
        assert [row.role for row in step.batch] == [None, None]
    points_at(rec, truth, 0, "circle", (3,))
    points_at(rec, truth, 1, "fish", (3,))


def test_a_word_that_is_cut_off_is_said_to_be():
    pipe, options = build("sd")
    with ux.record(pipe) as rec:
        run(pipe, LONG, **options)
    with pytest.raises(
        ValueError, match="'green fish' is cut off: the text encoder read 77 tokens"
    ):
        rec.attention("green fish")
    with pytest.raises(ValueError, match=r"'frog' is not in the prompt: a, red.*, \.\.\.$"):
        rec.attention("frog")

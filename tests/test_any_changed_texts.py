"""A prompt that a callback changes midway: each word is looked for where it was given."""

import pytest
import torch
from kernels import Kernels
from pipelines import FISH, FROG, RED, build, run

import unet_explained as ux
from unet_explained.widgets.subject import Subject
from unet_explained.widgets.subject_maps import WordMaps

CIRCLE, SQUARE, FISHES = (3,), (8,), (3,)  # tokens: of "circle" and "square" in RED, "fish" in FISH


def changing(pipe, encode, *, both: bool = False):
    """Options of a call whose prompt is FISH from its second forward on; both: FROG against it."""

    def change(pipe, step, timestep, values):
        if step == 0:
            embeds, negative = encode()
            first = negative if both else values["prompt_embeds"][:1]
            values["prompt_embeds"] = torch.cat([first, embeds])
        return values

    return dict(
        num_inference_steps=3,
        output_type="latent",
        callback_on_step_end=change,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )


def encoded(pipe):
    return pipe.encode_prompt(FISH, "cpu", 1, True, negative_prompt=FROG)


def recorded(*, inside: bool, both: bool = False, **kept):
    """A run seen in its kernels, and the same recorded; its texts read within, or named later."""
    pipe, _ = build("sd")
    before = encoded(pipe)
    options = changing(pipe, lambda: encoded(pipe) if inside else before, both=both)
    with Kernels(pipe.unet) as truth:
        run(pipe, RED, **options)
    with ux.record(pipe, **kept) as rec:
        run(pipe, RED, **options)
    if not inside:
        assert any("name(" in sentence for sentence in rec.unknown)
        rec.name(before[0], FISH)
    return truth, rec


def expected(truth, layer: str, step: int, tokens: tuple[int, ...]) -> torch.Tensor:
    heat = truth.mean(step, layer, 1)[:, list(tokens)].sum(dim=1)
    return heat.view(truth.sizes[layer]).float()


@pytest.mark.parametrize("kept", ["mean", "heads", "sum"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_word_is_looked_for_at_the_steps_that_were_given_it(inside, kept):
    truth, rec = recorded(inside=inside, attention=kept)
    assert [len(one.steps) for one in rec.runs] == [3]
    for layer in truth.layers:
        own = [expected(truth, layer, 0, CIRCLE)]
        torch.testing.assert_close(rec.attention("circle", layer=layer), own[0], atol=4e-3, rtol=0)
        fish = torch.stack([expected(truth, layer, step, FISHES) for step in (1, 2)]).mean(dim=0)
        torch.testing.assert_close(rec.attention("fish", layer=layer), fish, atol=4e-3, rtol=0)
    if kept != "sum":
        for word, step in (("circle", 1), ("fish", 0)):
            with pytest.raises(ValueError, match=f"'{word}' is not in the prompt"):
                rec.attention(word, step=step)
    with pytest.raises(ValueError, match=r"circle.*fish"):  # of what there is, all
        rec.attention("frog")


def test_a_word_of_both_texts_is_looked_for_at_each_ones_place():
    """By both definitions, as if each text had a record of its own."""
    truth, rec = recorded(inside=True, attention="heads")
    layer = truth.layers[0]
    places = (1, 6), (1,)  # "a" in "a red circle left of a blue square" and in "a green fish"
    heats = [
        torch.stack([expected(truth, layer, step, (token,)) for token in places[step > 0]]).mean(0)
        for step in range(3)
    ]
    heat = rec.attention("a", layer=layer)
    torch.testing.assert_close(heat, torch.stack(heats).mean(0), atol=4e-3, rtol=0)
    second = rec.attention("a", layer=layer, occurrence=1)  # of which FISH has none
    torch.testing.assert_close(second, expected(truth, layer, 0, (6,)), atol=4e-3, rtol=0)
    with pytest.raises(IndexError, match="occurrence 2 is not among the 2"):
        rec.attention("a", occurrence=2)
    assert ux.plot_heatmaps(torch.zeros(8, 8, 3), rec).axes
    each = [rec.attention("a", layer=layer, step=step, method="daam") for step in range(3)]
    whole = rec.attention("a", layer=layer, method="daam")
    torch.testing.assert_close(whole, torch.stack(each).sum(0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("inside", [True, False])
def test_halves_keep_their_places_when_both_texts_change(inside):
    _, rec = recorded(inside=inside, both=True, halves="both")
    roles = [(row.role, row.picture) for step in rec.runs[0].steps for row in step.batch]
    assert roles == [("unconditional", 0), ("conditional", 0)] * 3
    assert (rec.unknown == []) == inside
    if inside:
        assert rec.attention("frog", half="unconditional").shape == (8, 8)


def test_a_forward_that_a_callback_makes_is_not_the_calls_own():
    pipe, options = build("sd")

    def aside(pipe, step, timestep, values):
        embeds = encoded(pipe)[0]
        pipe.unet(torch.ones(2, 4, 8, 8), 7, torch.cat([embeds, embeds]))
        return values

    with ux.record(pipe) as rec:
        run(pipe, RED, callback_on_step_end=aside, **options)
    texts = [{row.text.text for step in one.steps for row in step.batch} for one in rec.runs]
    assert texts == [{"", RED}, {FISH}]
    assert [one.finished for one in rec.runs] == [True, None]


def test_the_table_has_each_steps_own_words():
    pytest.importorskip("pandas", reason="pip install pandas")
    _, rec = recorded(inside=True)
    table = rec.to_pandas()
    assert {*table[table.step == 0].prompt} == {RED}
    assert {*table[table.step > 0].prompt} == {FISH}
    assert {*table[table.step == 2].word} == {*FISH.split()}
    whole = recorded(inside=True, attention="sum")[1].to_pandas()
    assert {*whole.prompt} == {RED, FISH}


@pytest.mark.parametrize("kept", ["mean", None])
def test_a_view_has_the_words_of_the_first_text_and_says_so_of_other_steps(kept):
    truth, rec = recorded(inside=True, attention=kept)
    source = WordMaps(Subject(rec, 0))
    for step in source.missing(None, None, "conditional"):
        source.replay(step)
    layer, words = truth.layers[0], [column.text for column in source.columns["conditional"]]
    heat = source.maps(layer)[words.index("square")]
    torch.testing.assert_close(heat, expected(truth, layer, 0, SQUARE), atol=4e-3, rtol=0)
    with pytest.raises(ValueError, match="step 2 was given others"):
        source.maps(layer, step=2)


@pytest.mark.parametrize("kept", ["mean", "sum"])
@torch.no_grad()
def test_what_is_named_again_has_the_later_name(kept):
    pipe, options = build("sd")
    embeds, negative = encoded(pipe)
    with ux.record(pipe, attention=kept) as rec:
        run(pipe, None, prompt_embeds=embeds, negative_prompt_embeds=negative, **options)
    assert rec.name(embeds, "a big green fish") == rec.name(embeds, FISH) == 2
    assert torch.equal(rec.attention("fish"), rec.attention(token=3))

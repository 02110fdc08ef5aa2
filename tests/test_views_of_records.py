"""The live views of a record and a picture: of whatever loop, loaded, unfinished, in part."""

import numpy as np
import pytest
import torch
from recording_helpers import of_a_run
from traitlets import TraitError

import unet_explained as ux
from unet_explained.recording import Identity, Origin, Recording, Row, identified, record
from unet_explained.run.look import maps_of
from unet_explained.run.pictures import as_image
from unet_explained.widgets.explorer import explore
from unet_explained.widgets.explorer_page import choice
from unet_explained.widgets.umap import umap
from unet_explained.widgets.widget import Asked

pytestmark = pytest.mark.slow

PROMPT, NEGATIVE = "a red frog left of a blue square", "a green fish"
LAYER = "up_blocks.1.attentions.2.transformer_blocks.0.attn2"
GONE = "cannot be computed again: the model that was recorded is gone"
ALL = dict(attention="heads", halves="both", self_attention=True)
PLACES = [
    dict(),
    dict(step=1),
    dict(step=0, layer=LAYER),
    dict(step=1, layer=LAYER, head=3),
    dict(step=1, half="unconditional"),
]
LOOK = {"self": {"row": 5, "column": 6, "layer": LAYER, "step": 1, "half": "conditional"}}


def guided(pipe, *patterns, size=(64, 64), **options):
    """A run of two steps, and a record of it."""
    height, width = size
    told = dict(negative_prompt=NEGATIVE, guidance=5, height=height, width=width)
    with record(pipe.unet, *patterns, **options) as recording:
        run = pipe(PROMPT, steps=2, **told)
    return run, recording


def taken_along(recording: Recording, tmp_path) -> Recording:
    return Recording.load(recording.save(tmp_path / "record"))


def maps(view, **where) -> np.ndarray:
    """The weights (column, height, width) that a page makes of an answer."""
    content, (data,) = view.answer({"maps": choice(**where)})
    shares = np.frombuffer(data, np.uint8).reshape(content["shape"]) / 255
    return shares * np.array(content["tops"])[:, None, None]


def assert_map(found: np.ndarray, expected: torch.Tensor) -> None:
    """As equal as 255 steps from 0 to the map's maximum allow."""
    assert np.abs(found - expected.numpy()).max() <= expected.max() / 255 + 1e-6


def test_a_record_with_its_picture_is_shown_as_the_run_is(tiny_pipe):
    run, rec = guided(tiny_pipe, **ALL)
    of_run, of_record = explore(run, rec), explore(rec, image=run.image)
    assert of_record.about == of_run.about | {"foreseen": False}
    assert of_record.picture == of_run.picture
    assert of_record.title == of_run.title
    for asked in [*({"maps": choice(**where)} for where in PLACES), LOOK]:
        assert of_record.answer(asked) == of_run.answer(asked)
    assert of_record.still() == of_run.still()


def test_what_a_record_did_not_keep_is_run_again_from_it_alone(tiny_pipe):
    run, rec = guided(tiny_pipe, attention=None)
    view = explore(rec)
    assert view.about["choice"] == choice(step=0)
    assert view.about["layers"][0]["heads"] == 2
    for where in PLACES[1:]:
        assert np.array_equal(maps(view, **where), maps(explore(run), **where))


def test_a_loaded_record_shows_all_that_it_holds(tiny_pipe, tmp_path):
    run, rec = guided(tiny_pipe, **ALL)
    view = explore(taken_along(rec, tmp_path), image=run.image)
    assert view.about == explore(run, rec).about | {"foreseen": False}
    for asked in [*({"maps": choice(**where)} for where in PLACES), LOOK]:
        assert view.answer(asked) == explore(run, rec).answer(asked)
    assert view.still() == explore(run, rec).still()
    assert view.to_html(tmp_path / "explorer.html").stat().st_size > 100_000


def test_of_a_loaded_record_the_menus_offer_only_what_it_holds(tiny_pipe, tmp_path):
    _, rec = guided(tiny_pipe)
    live, view = explore(rec), explore(taken_along(rec, tmp_path))
    assert [layer["heads"] for layer in live.about["layers"][:3]] == [2, 2, 4]
    assert list(live.about["texts"]) == ["conditional", "unconditional"]
    assert {layer["heads"] for layer in view.about["layers"]} == {0}
    assert list(view.about["texts"]) == ["conditional"]
    offered = [
        (each.about["steps"], each.about["mean"], each.about["self"]) for each in (live, view)
    ]
    assert offered == [(True, True, True), (True, True, False)]
    assert np.array_equal(maps(view, step=1), maps(live, step=1))
    for asked in ({"maps": choice(LAYER, 3, 1)}, {"replay": 0}, LOOK):
        with pytest.raises(Asked, match=GONE):
            view.answer(asked)
    with pytest.raises(Asked, match=GONE):
        view.answer({"maps": choice(step=1, half="unconditional")})


def test_a_loaded_sum_has_no_single_step_and_a_record_without_maps_no_view(tiny_pipe, tmp_path):
    _, rec = guided(tiny_pipe, attention="sum")
    view = explore(taken_along(rec, tmp_path))
    assert (view.about["steps"], view.about["mean"]) == (False, True)
    assert_map(maps(view)[2], rec.attention("red"))
    with pytest.raises(Asked, match=GONE):
        view.answer({"maps": choice(step=1)})
    _, rec = guided(tiny_pipe, attention=None)
    with pytest.raises(
        ValueError, match=r"no map was recorded, and none .* is gone: pass unet=; record\("
    ):
        explore(taken_along(rec, tmp_path))
    assert not umap(taken_along(rec, tmp_path)).answers["cross"]


def test_what_found_no_room_in_the_budget_is_said_and_sizes_are_known(tiny_pipe):
    size = 48, 96
    _, plain = guided(tiny_pipe, size=size)
    kept = sum(m.nbytes for step in plain.runs[0].steps for m in step.attention.values())
    run, rec = guided(tiny_pipe, size=size, budget=kept + 100)
    view = explore(rec, image=run.image)
    assert view.about["latents"] == [6, 12]
    assert_map(maps(view)[2], rec.attention("red"))
    with pytest.raises(Asked, match="what step 0 was given is not kept: it did not fit the budget"):
        view.answer({"replay": 0})
    assert umap(rec).modules["conv_in"]["axes"][2:] == [["height", 6], ["width", 12]]
    assert explore(run, rec).about["layers"][0]["heads"] == 2  # the run's own record replays


def test_pictures_and_latents_need_not_be_square(tiny_pipe):
    run, rec = guided(tiny_pipe, size=(48, 96), **ALL)
    view = explore(rec, image=run.image)
    assert maps(view).shape == (10, 6, 12)
    looked = rec.self_attention(layer=LAYER.replace("attn2", "attn1"), step=1, pixel=(1, 2))
    asked = {"row": 5, "column": 11, "layer": LAYER, "step": 1, "half": "conditional"}
    content, (data,) = view.answer({"self": asked})
    assert content["shape"] == [1, *looked.shape] == [1, 2, 3]
    assert_map(np.frombuffer(data, np.uint8).reshape(2, 3) / 255 * content["tops"][0], looked)
    answer = umap(rec, image=run.image).answer
    assert answer({"attention": LAYER, "step": 1}) == umap(run).answer(
        {"attention": LAYER, "step": 1}
    )


def test_without_a_picture_there_are_the_maps_alone(tiny_pipe):
    run, rec = guided(tiny_pipe)
    view = explore(rec)
    assert view.picture == b""
    assert view.still().startswith(b"\x89PNG")
    assert view.still() != explore(rec, image=run.image).still()
    texts = umap(rec).answer({"attention": LAYER, "step": 1})[0]["texts"]
    assert [text.split(",")[0] for text in texts] == PROMPT.split()


@pytest.fixture(scope="module")
def looked_at(tiny_folder):
    """One forward on three pictures at timesteps of their own, with its maps and without."""
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    pipe, times = ux.load(tiny_folder, device="cpu"), [900, 500, 100]
    kept = maps_of(pipe, picture, PROMPT, t=times, attention="heads", self_attention=True)
    return pipe, kept, maps_of(pipe, picture, PROMPT, t=times, attention=None)


def test_of_several_pictures_each_is_had(looked_at):
    _, rec, bare = looked_at
    for view in (explore, umap):
        assert len(view(rec).subjects) == 3
        with pytest.raises(IndexError, match="picture 3 is not among the 3"):
            view(rec, picture=3)
    for picture, timestep in enumerate((900, 500, 100)):
        view = explore(rec, picture=picture)
        assert view.about["timesteps"] == [timestep]
        assert_map(maps(view)[2], rec.attention("red", picture=picture))
        again = maps(explore(bare, picture=picture), step=0, layer=LAYER, head=3)
        assert again == pytest.approx(maps(view, step=0, layer=LAYER, head=3), abs=1 / 255)
        content, (data,) = view.answer({"self": LOOK["self"] | {"step": 0}})
        looked = rec.self_attention(
            layer=LAYER.replace("attn2", "attn1"), pixel=(1, 1), picture=picture
        )
        found = np.frombuffer(data, np.uint8).reshape(2, 2) / 255 * content["tops"][0]
        assert_map(found, looked)
    one, other = (umap(rec, picture=n).answer({"attention": LAYER, "step": 0}) for n in (0, 1))
    assert one != other


def test_features_are_those_of_the_picture_in_its_row(looked_at):
    _, rec, _ = looked_at
    name = "down_blocks.0.resnets.1"
    outputs = rec.replay(0, name)[name][0]
    for picture in range(3):
        content, _ = umap(rec, picture=picture).answer({"features": name, "step": 0, "first": 2})
        assert content["texts"][1] == f"channel 2, to ±{outputs[picture][2].abs().max():.3g}"


def test_a_loop_that_says_nothing_is_shown_by_tokens(unet, inputs):
    with record(unet) as rec:
        unet(*inputs)
    view = explore(rec, picture=1)
    told = view.about["texts"]["conditional"]
    assert (told["label"], told["prompt"]) == ("nobody said which half this is", None)
    assert [word["text"] for word in told["words"]] == [f"token {i}" for i in range(77)]
    assert [word["kind"] for word in told["words"]] == ["first"] + ["token"] * 76
    assert_map(maps(view)[5], rec.attention(token=5, picture=1))
    assert view.title == "Which pixels look at which token"
    assert view.still().startswith(b"\x89PNG")
    for step in (None, 0):
        with pytest.raises(Asked, match="nobody said which half is which"):
            view.answer({"maps": choice(half="unconditional", step=step)})
    drawn = umap(rec, picture=1)
    content, files = drawn.answer({"attention": "mid_block", "step": 0})
    assert (drawn.title, content["kind"], len(files)) == ("a recorded run", "tokens", 77)
    assert content["texts"][5].startswith("token 5, to ")


def test_rows_with_a_role_and_no_text(unet, inputs):
    with record(unet, halves="both") as rec, of_a_run():
        unet(*inputs)
    texts = explore(rec).about["texts"]
    assert [texts[half]["label"] for half in texts] == ["conditional", "unconditional"]
    assert texts["conditional"]["words"][3]["text"] == "token 3"


def rows(*roles):
    return tuple(Row(None, 0, role) for role in roles)


def test_whatever_roles_there_are_stand_in_the_menu(unet, inputs):
    latents, t, text = inputs
    batch = torch.cat([latents, latents[:1] + 1]), t, torch.cat([text, text[1:]])
    roles = "unconditional", "conditional", "conditional#2"
    with (
        record(unet, halves="both") as rec,
        identified(Identity(Origin(1), rows(*roles))),
    ):
        unet(*batch)
    view = explore(rec)
    assert list(view.about["texts"]) == ["conditional", "unconditional", "conditional#2"]
    for row, role in enumerate(roles):
        with record(unet) as alone:
            unet(batch[0][row : row + 1], t, batch[2][row : row + 1])
        assert maps(view, half=role)[5] == pytest.approx(alone.attention(token=5).numpy(), abs=1e-3)


@pytest.mark.parametrize("attention", ["mean", None])
def test_a_half_that_goes_off_on_the_way_says_so_at_the_steps_without_it(unet, inputs, attention):
    origin, (latents, t, text) = Origin(3), inputs
    with record(unet, halves="both", attention=attention) as rec:
        with identified(Identity(origin, rows("unconditional", "conditional"))):
            unet(*inputs)
            unet(latents + 1, t, text)
        with identified(Identity(origin, rows("conditional"))):
            unet(latents[1:], t, text[1:])
    view = explore(rec)
    counts = {half: told["count"] for half, told in view.about["texts"].items()}
    assert counts == {"conditional": 3, "unconditional": 2}
    with record(unet, halves="both") as both, of_a_run(2):
        unet(*inputs)
        unet(latents + 1, t, text)
    for step in range(3):
        view.answer({"replay": step})
    expected = both.attention(token=5, half="unconditional")
    assert maps(view, half="unconditional")[5] == pytest.approx(expected.numpy(), abs=1e-3)
    with pytest.raises(Asked, match="no unconditional half"):
        view.answer({"maps": choice(step=2, half="unconditional")})


def test_an_unfinished_run_says_how_far_it_came(tiny_pipe, tmp_path):
    with record(tiny_pipe.unet) as rec:
        steps = tiny_pipe.denoise(PROMPT, steps=4)
        next(steps), next(steps)
        steps.close()
    for each in (rec, taken_along(rec, tmp_path)):
        view = explore(each)
        assert view.about["unfinished"] == "unfinished: 2 of 4 steps"
        assert len(view.about["timesteps"]) == 2
        assert_map(maps(view, step=1)[2], rec.attention("red", step=1))
        assert umap(each).given.endswith("unfinished: 2 of 4 steps")


def test_the_map_of_the_u_is_that_of_the_run(tiny_pipe):
    run, rec = guided(tiny_pipe, "mid_block", stats=True)
    of_run, of_record = umap(run), umap(rec, image=run.image)
    assert of_record.modules == of_run.modules
    assert of_record.drawing == of_run.drawing
    for asked in (
        {"activity": 1},
        {"features": "mid_block", "step": 1, "first": 0},
        {"features": "conv_out", "step": 0, "first": 0},
        {"attention": "mid_block.attentions.0.transformer_blocks.0.attn1", "step": 1},
    ):
        assert of_record.answer(asked) == of_run.answer(asked)
    words = {"attention": LAYER, "step": 1}
    assert of_record.answer(words)[0]["texts"][:2] == of_run.answer(words)[0]["texts"][:2]


def test_the_map_of_the_u_of_a_loaded_record_offers_what_it_holds(tiny_pipe, tmp_path):
    run, rec = guided(tiny_pipe, "mid_block", stats=True)
    view = umap(taken_along(rec, tmp_path), image=run.image)
    assert view.modules == umap(run).modules
    assert view.given == umap(run).given
    held = dict(activity=True, features=["mid_block"], cross=True, self=False, through=False)
    assert view.answers == held
    assert view.answer({"activity": 1}) == umap(run).answer({"activity": 1})
    asked = {"features": "mid_block", "step": 1, "first": 0}
    assert view.answer(asked) == umap(run).answer(asked)
    assert len(view.answer({"attention": "mid_block", "step": 1})[1]) == 1 + len(PROMPT.split())
    assert view.to_html(tmp_path / "u.html").is_file()
    for asked in (
        {"features": "conv_in", "step": 0, "first": 0},
        {"attention": LAYER.replace("attn2", "attn1"), "step": 0},
    ):
        with pytest.raises(Asked, match=GONE):
            view.answer(asked)
    _, rec = guided(tiny_pipe)
    silent = umap(taken_along(rec, tmp_path))
    assert not silent.answers["activity"]
    with pytest.raises(TraitError, match="activity was not recorded"):
        silent.colour = "activity"


def test_of_several_runs_each_is_had(tiny_pipe):
    with record(tiny_pipe.unet) as rec:
        for prompt in ("a red frog", "a blue square"):
            tiny_pipe(prompt, steps=1)
    for view in (explore, umap):
        assert len(view(rec).subjects) == 2
        assert "a blue square" in view(rec, run=1).title
        with pytest.raises(IndexError, match="run 2 is not among the 2"):
            view(rec, run=2)


def test_what_does_not_fit_is_refused_before_any_work(tiny_pipe):
    run, rec = guided(tiny_pipe)
    for view in (explore, umap):
        with pytest.raises(
            TypeError, match="a Run has its own picture and model: leave image=, picture= out"
        ):
            view(run, image=run.image, picture=0)
        with pytest.raises(ValueError, match=r"expected one picture, .*got a list of"):
            view(rec, image=[np.zeros((8, 8, 3))] * 2)
        with record(tiny_pipe.unet) as nothing, pytest.raises(ValueError, match="nothing was rec"):
            view(nothing)
    with pytest.raises(TypeError, match="expected one recording, got two"):
        explore(rec, rec)
    with pytest.raises(TypeError, match="a run has its own height: leave them out"):
        umap(rec, height=8)
    with pytest.raises(TypeError, match="only a Recording has a choice of image="):
        umap("sd15", image=run.image)


def test_a_picture_is_what_pil_or_numpy_reads(tmp_path):
    whole = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    as_image(whole).save(tmp_path / "picture.png")
    for picture in (
        whole,
        whole / 255,
        torch.tensor(whole),
        as_image(whole),
        tmp_path / "picture.png",
    ):
        assert np.array_equal(np.asarray(as_image(picture)), whole)
    assert as_image(whole[..., 0]).mode == "RGB"
    with pytest.raises(ValueError, match=r"got a Tensor of shape \(3, 6, 9\)"):
        as_image(torch.zeros(3, 6, 9))


def test_a_runs_own_record_is_one_like_any_other(tiny_pipe, tmp_path):
    run = tiny_pipe(PROMPT, steps=2, guidance=5)
    loaded = taken_along(run.recording, tmp_path)
    assert loaded.text(half="conditional").text == PROMPT
    assert tuple(loaded.timesteps) == run.timesteps
    assert loaded.config == tiny_pipe.unet.config.to_dict()
    assert loaded.dtype == torch.float32
    for name, value in run.recording.given(1).items():
        again = loaded.given(1)[name]
        assert again is value is None or torch.equal(again, value)
    again = loaded.replay(1, "conv_out", unet=tiny_pipe.unet)["conv_out"][0]
    assert torch.equal(again, run.replay(1, "conv_out")["conv_out"][0])
    assert np.array_equal(maps(explore(run.recording), step=0), maps(explore(run), step=0))

"""Numbers that are not finite, or not possible."""

import copy
import json
import math
import re
import shutil
import warnings
from contextlib import nullcontext, suppress
from functools import partial

import numpy as np
import pipelines
import pytest
import torch
from pipelines import RED, build
from pipelines import run as call

import unet_explained as ux
from unet_explained.__main__ import main
from unet_explained.recording.intervene import intervene
from unet_explained.recording.storage import STRUCTURE
from unet_explained.widgets.umap_pictures import feature_tiles

pytestmark = pytest.mark.slow

PROMPT = "a red circle"
NAN, INF = math.nan, math.inf
PLACES = {  # a parameter, by the module whose it is: one on each of the ways through the network
    "conv_in": "bias",
    "time_embedding.linear_1": "weight",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k": "weight",
    "mid_block.resnets.0.conv1": "bias",
    "up_blocks.2.resnets.1.conv_shortcut": "bias",
}
MID = "mid_block.resnets.0.conv1"


def spoil(unet, module: str = MID, value: float = NAN, parameter: str | None = None) -> None:
    """One number of a parameter becomes this."""
    with torch.no_grad():
        weights = getattr(unet.get_submodule(module), parameter or PLACES[module])
        weights[(0,) * weights.ndim] = value


def scale(unet, module: str, by: float) -> None:
    with torch.no_grad():
        unet.get_submodule(module).weight.mul_(by)


@pytest.fixture
def said(recwarn):
    """What was said of numbers so far: the texts of the warnings."""
    return lambda: [str(one.message) for one in recwarn if "not finite" in str(one.message)]


@pytest.fixture(scope="module")
def loaded(tiny_folder):
    return ux.load(tiny_folder, device="cpu")


@pytest.fixture
def tiny_pipe(loaded):
    """A copy to be spoiled, which is quicker than to load it again."""
    return copy.deepcopy(loaded)


@pytest.fixture(scope="module")
def nan_run(loaded):
    """A run of NaN and its record, to be read."""
    pipe = copy.deepcopy(loaded)
    spoil(pipe.unet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ux.record(pipe.unet, "mid_block", stats=True) as rec:
            return pipe(PROMPT, steps=2), rec


# ---- a run says it once, with the step and the module


@pytest.mark.parametrize("value", [NAN, INF], ids=["NaN", "Inf"])
@pytest.mark.parametrize("module", PLACES)
def test_a_weight_that_is_not_finite_is_named_by_a_plain_run(tiny_pipe, said, module, value):
    spoil(tiny_pipe.unet, module, value)
    found = tiny_pipe(PROMPT, steps=2).recording.first_nonfinite
    assert (found.run, found.step, found.module) == (0, 0, module)
    assert found.kind == ("NaN" if math.isnan(value) else "Inf")
    assert found.rows == (0, 1)
    assert found.replayed
    (text,) = said()
    assert "step 0" in text
    assert module in text
    assert f"{PLACES[module]} holds" in text


@pytest.mark.parametrize("place", PLACES)
def test_of_a_diffusers_pipeline_the_record_names_it(said, place):
    pipe, options = build("sd")
    kind = place.rpartition(".")[2]
    names = [name for name, _ in pipe.unet.named_modules()]  # of two levels
    module = place if place in names else next(name for name in names if name.endswith(kind))
    spoil(pipe.unet, module, parameter=PLACES[place])
    with ux.record(pipe) as rec:
        call(pipe, RED, **options)
    found = rec.first_nonfinite
    assert (found.step, found.module, found.kind, found.replayed) == (0, module, "NaN", True)
    assert len(said()) == 1
    assert module in said()[0]


def test_a_record_around_a_run_does_not_say_it_again(tiny_pipe, said):
    spoil(tiny_pipe.unet)
    with ux.record(tiny_pipe.unet) as outer, ux.record(tiny_pipe.unet) as inner:
        tiny_pipe(PROMPT, steps=2)
    assert len(said()) == 1
    assert outer.first_nonfinite.module == inner.first_nonfinite.module == MID
    assert [len(rec.runs) for rec in (outer, inner)] == [1, 1]  # looking closer left no forward
    assert [len(rec.runs[0].steps) for rec in (outer, inner)] == [2, 2]


@pytest.mark.parametrize("theirs", [False, True])
def test_of_recorders_inside_one_another_one_says_it(theirs, unet, inputs, said):
    pipe, options = build("sd")
    recorded, model = (pipe, pipe.unet) if theirs else (unet, unet)
    run = partial(call, pipe, RED, **options) if theirs else partial(unet, *inputs)
    spoil(model, "conv_in")
    with ux.record(recorded), ux.record(recorded), ux.record(model):
        run()
    assert len(said()) == 1
    with ux.record(model):
        run()
    assert len(said()) == 2, "of another run it is said again"


def test_the_next_run_says_it_again(tiny_pipe, said):
    spoil(tiny_pipe.unet)
    for _ in range(2):
        tiny_pipe(PROMPT, steps=1)
    assert len(said()) == 2


def test_the_step_is_the_first_that_is_not_finite(tiny_pipe, said):
    with ux.record(tiny_pipe.unet) as rec:
        for step in tiny_pipe.denoise(PROMPT, steps=3):
            if step.index == 1:
                spoil(tiny_pipe.unet)
    assert (rec.first_nonfinite.step, rec.first_nonfinite.module) == (2, MID)
    assert "step 2" in said()[0]


def test_of_several_runs_the_one_is_named(tiny_pipe):
    with ux.record(tiny_pipe.unet) as rec:
        tiny_pipe(PROMPT, steps=1)
        spoil(tiny_pipe.unet)
        tiny_pipe(PROMPT, steps=1)
    assert rec.first_nonfinite.run == 1


def test_where_all_is_finite_nothing_is_said(tiny_pipe, said):
    with ux.record(tiny_pipe.unet) as rec:
        run = tiny_pipe(PROMPT, steps=2)
    assert rec.first_nonfinite is None
    assert run.recording.first_nonfinite is None
    assert said() == []


def test_one_row_alone_is_named(unet, inputs):
    latents, timestep, context = inputs
    context[1, 3, 5] = NAN
    with ux.record(unet) as rec:
        unet(latents, timestep, context)
    found = rec.first_nonfinite
    assert found.rows == (1,)
    assert (found.module, found.given) == ("", "encoder_hidden_states")


def test_what_was_given_is_not_blamed_on_the_network(unet, inputs, said):
    latents, timestep, context = inputs
    with ux.record(unet) as rec:
        unet(latents * INF, timestep, context)
    assert rec.first_nonfinite.given == "sample"
    assert "was given Inf in sample" in said()[0]


def test_what_code_makes_between_modules_is_its_modules(sharp_unet, inputs):
    """Scores that overflow: no Linear makes them, the attention does."""
    name = "mid_block.attentions.0.transformer_blocks.0.attn2"
    attention = sharp_unet.get_submodule(name)
    for linear in (attention.to_q, attention.to_k):
        linear.weight.data.fill_(1e25)
    with ux.record(sharp_unet) as rec:
        sharp_unet(*inputs)
    assert rec.first_nonfinite.module.startswith(name)
    assert rec.first_nonfinite.module not in (f"{name}.to_q", f"{name}.to_k", f"{name}.to_out.0")


@pytest.mark.parametrize("kind", ["float16", "autocast"])
def test_an_overflow_of_float16(tiny_pipe, said, kind):
    """Finite weights, finite in float32 too: 65504 is the end of float16 alone."""
    unet = tiny_pipe.unet
    scale(unet, MID, 3e5)
    with ux.record(unet) as rec:
        tiny_pipe(PROMPT, steps=1)
    assert rec.first_nonfinite is None
    if kind == "float16":
        scale(unet, MID, 1 / 3e5)
        unet.half()
        scale(unet, MID, 3e5)
    with (
        torch.autocast("cpu", torch.float16) if kind == "autocast" else nullcontext(),
        ux.record(unet) as rec,
    ):
        tiny_pipe(PROMPT, steps=1)
    assert rec.first_nonfinite.module == MID
    assert rec.first_nonfinite.kind == "Inf"
    assert "float16" in said()[0]
    assert "bfloat16" in said()[0]


def test_what_has_changed_since_is_said_not_guessed(tiny_pipe):
    with (
        ux.record(tiny_pipe.unet, "mid_block", "conv_in") as rec,
        intervene(tiny_pipe.unet, "mid_block", lambda x: x * NAN),
    ):
        steps = tiny_pipe.denoise(PROMPT, steps=2)
        next(steps)
    found = rec.first_nonfinite
    assert (found.module, found.replayed) == ("mid_block", False)
    assert "finite when it ran again" in str(found)


def test_an_intervention_that_still_lasts_is_replayed_with(tiny_pipe):
    with intervene(tiny_pipe.unet, "up_blocks.1", lambda x: x * NAN):
        run = tiny_pipe(PROMPT, steps=1)
        assert run.recording.first_nonfinite.module == "up_blocks.1"


@pytest.mark.parametrize(
    ("patterns", "options", "module"),
    [
        ((), dict(stats=True), MID),
        (("mid_block", "conv_out"), {}, "mid_block"),
        ((), {}, "down_blocks.1.attentions.0.transformer_blocks.0.attn2"),
        ((), dict(attention=None), None),
    ],
    ids=["statistics", "outputs", "maps", "nothing"],
)
def test_of_a_record_that_cannot_run_again_the_first_recorded(
    tiny_pipe, tmp_path, patterns, options, module
):
    spoiled = MID
    if module and "attn2" in module:
        spoiled = f"{module}.to_k"
    spoil(tiny_pipe.unet, spoiled)
    with ux.record(tiny_pipe.unet, *patterns, **options) as rec:
        tiny_pipe(PROMPT, steps=1)
    found = ux.Recording.load(rec.save(tmp_path / "record")).first_nonfinite
    assert (found.step, found.module, found.replayed) == (0, module, False)
    assert "could not run again" in str(found)


def test_an_interrupted_with_still_knows(tiny_pipe):
    spoil(tiny_pipe.unet)
    with suppress(KeyboardInterrupt), ux.record(tiny_pipe.unet) as rec:
        next(tiny_pipe.denoise(PROMPT, steps=2))
        raise KeyboardInterrupt
    assert rec.first_nonfinite.module == MID


def test_a_vae_that_overflows_is_named_and_not_the_unet(tiny_pipe, said):
    scale(tiny_pipe.vae, "decoder.conv_in", 1e38)
    run = tiny_pipe(PROMPT, steps=1)
    assert said() == []
    _ = run.image
    (text,) = said()
    assert "VAE" in text


def test_nothing_waits_inside_a_forward(tiny_pipe, monkeypatch):
    """What would wait for CUDA, were it there: no number is read before the run has ended."""
    unet, waits, inside = tiny_pipe.unet, [], []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        plain = getattr(torch.Tensor, name)

        def watched(self, *args, plain=plain, name=name):
            if inside and self.is_floating_point():
                waits.append(name)
            return plain(self, *args)

        monkeypatch.setattr(torch.Tensor, name, watched)
    with ux.record(unet, attention=None):
        unet.register_forward_pre_hook(lambda *call: inside.append(1))
        for step in tiny_pipe.denoise(PROMPT, steps=2):
            assert step.index < 2
            inside.clear()
    assert waits == []


# ---- it is shown as what it is


def strict(text: str):
    """JSON as a browser reads it."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def page_of(view, tmp_path) -> dict:
    text = view.to_html(tmp_path / "page.html").read_text()
    return strict(re.search(r'id="saved">(.*?)</script>', text, re.S)[1])


@pytest.mark.parametrize("view", ["explore", "explore alone", "umap"])
def test_a_saved_page_has_no_nan_in_it(nan_run, tmp_path, view):
    run, rec = nan_run
    made = ux.umap(run) if view == "umap" else ux.explore(run, *[rec] * (view == "explore"))
    saved = page_of(made, tmp_path)
    if view == "umap":
        activity = next(a for asked, a, _ in saved["answers"] if asked == {"activity": 0})
        assert activity["mid_block"] is None  # not left out: it ran
        assert activity["conv_in"] > 0
    else:
        lost = f"{MID.split('.')[0]}.attentions.0.transformer_blocks.0.attn2"
        tops = {a[0]["maps"]["layer"]: a[1]["tops"] for a in saved["answers"] if "maps" in a[0]}
        assert saved["state"]["first"]["tops"] == [None] * len(saved["state"]["first"]["tops"])
        assert set(tops[lost]) == {None}
        first = next(name for name in tops if name.startswith("down_blocks.0"))
        assert None in tops[first] or min(tops[first]) > 0


@pytest.mark.parametrize("value", [NAN, INF], ids=["NaN", "Inf"])
def test_messages_to_a_page_have_no_nan_in_them(nan_run, monkeypatch, value):
    view, sent = ux.explore(*nan_run), []
    monkeypatch.setattr("anywidget.AnyWidget.send", lambda self, *what: sent.append(what[0]))
    monkeypatch.setattr(view, "answer", lambda asked: ({"tops": [value, 0.5]}, []))
    view._asked(view, {"number": "1", "ask": {}}, [])
    assert strict(json.dumps(sent[0]))["content"]["tops"] == [None, 0.5]


def test_a_timestep_that_is_none_does_not_break_a_page(inputs, tmp_path):
    latents, _, context = inputs
    theirs = pipelines.unet()
    with ux.record(theirs) as rec:
        theirs(latents, torch.tensor([NAN, 3.0]), context)
    assert page_of(ux.explore(rec, picture=0), tmp_path)["state"]["about"]["timesteps"] == [None]


def test_live_says_it_and_draws_no_zeros(tiny_pipe, tmp_path):
    spoil(tiny_pipe.unet, "up_blocks.1.resnets.0.conv1", parameter="bias")
    view = ux.live(tiny_pipe, PROMPT, steps=2)
    view.wait()
    content = view.frames[-1].content
    assert content["lost"]["maps"] == [0, 1, 2]
    assert "conv_in" in content["lost"]["modules"]  # it was given the latents of the first step
    first = view.frames[0].content["lost"]["modules"]
    assert "up_blocks.1.resnets.0" in first
    assert "conv_in" not in first
    assert "not finite" in content["about"]
    assert "up_blocks.1.resnets.0.conv1" in view.note
    assert view.picture == b""
    page_of(view, tmp_path)
    view.still()


def test_live_of_a_diffusers_pipeline_says_it(tmp_path):
    pipe, _ = build("sd")
    spoil(pipe.unet)
    view = ux.live(pipe, PROMPT, steps=2)
    view.wait()
    assert MID in view.note
    assert "not finite" in view.frames[-1].content["about"]
    page_of(view, tmp_path)


def words_in(figure) -> str:
    axes = [text.get_text() for axis in figure.axes for text in axis.texts]
    return " ".join(axes + [axis.get_title() for axis in figure.axes])


def test_a_still_map_of_nan_is_hatched_and_has_the_word(nan_run):
    figure = ux.plot_heatmaps(*nan_run)
    assert words_in(figure).count("not finite") == 3
    assert figure._repr_png_()


def test_a_map_of_nan_beside_others_leaves_them_their_scale(nan_run):
    from unet_explained.show.heatmaps import heatmap_grid

    maps = [np.full((4, 4), NAN), np.full((4, 4), 0.25)]
    figure = heatmap_grid(np.zeros((8, 8, 3), np.uint8), ["a", "b"], maps)
    assert "max 0.250" in words_in(figure)
    assert figure.axes[-1].get_ylim() == (0, 0.25)  # the colour bar's


def test_a_table_of_words_has_nan_for_nan(nan_run):
    table = nan_run[1].to_pandas()
    lost = table[table.layer.str.startswith("up_blocks")]
    assert len(lost) > 0
    assert lost[["mass", "peak", "entropy"]].isna().all().all()


def test_statistics_say_what_share_is_lost(nan_run):
    stats = nan_run[1].stats
    assert stats["conv_out"][0].nonfinite == 1
    assert math.isnan(stats["conv_out"][0].mean)
    assert stats["conv_in"][0].nonfinite == 0


def test_feature_maps_of_nan_are_grey_and_said():
    features = np.ones((3, 4, 4), np.float32)
    features[1, 0, 0] = NAN
    texts, files = feature_tiles(features, 0, 3)
    assert texts[2] == "channel 1, not finite in 1 place"
    assert len(files) == 4


def test_a_record_with_a_nan_number_is_saved_as_json(unet, inputs, tmp_path):
    latents, timestep, context = inputs
    with ux.record(unet, attention=None) as rec:
        unet(latents, timestep, context)
    rec.runs[0].steps[0].given.by_name["added_cond_kwargs"] = {"strength": -INF, "odd": NAN}
    folder = rec.save(tmp_path / "record")
    strict((folder / STRUCTURE).read_text())
    again = ux.Recording.load(folder).given(0)["added_cond_kwargs"]
    assert again["strength"] == -INF
    assert math.isnan(again["odd"])


def test_exported_maps_have_json_without_nan(nan_run, tmp_path):
    from unet_explained.show.export import export_heatmaps

    run, rec = nan_run
    folder = export_heatmaps(run.image, rec, tmp_path / "maps")
    about = strict((folder / "metadata.json").read_text())
    assert [word["finite"] for word in about["words"]] == [False] * 3


# ---- refused before any work


@pytest.fixture
def forwards(tiny_pipe):
    """How many forwards there were."""
    count = []
    tiny_pipe.unet.register_forward_pre_hook(lambda *call: count.append(1))
    return count


OPTIONS = [
    ({"guidance": NAN}, ValueError, "guidance: expected .*, got nan"),
    ({"guidance": INF}, ValueError, "guidance: expected .*, got inf"),
    ({"guidance": -INF}, ValueError, "guidance"),
    ({"guidance": 1e30}, ValueError, "guidance"),
    ({"guidance": -3}, ValueError, "guidance"),
    ({"guidance": "7.5"}, TypeError, "guidance: expected a number, got '7.5'"),
    ({"guidance": True}, TypeError, "guidance"),
    ({"guidance": np.float32(NAN)}, ValueError, "guidance"),
    ({"seed": 1.0}, TypeError, "seed: expected a whole number, got 1.0"),
    ({"seed": True}, TypeError, "seed"),
    ({"seed": "0"}, TypeError, "seed"),
    ({"seed": None}, TypeError, "seed"),
    ({"seed": NAN}, TypeError, "seed"),
    ({"seed": 2**70}, ValueError, "seed"),
    ({"seed": torch.tensor(1.5)}, TypeError, "seed"),
    ({"steps": True}, TypeError, "steps"),
    ({"steps": 2.0}, TypeError, "steps"),
    ({"latents": torch.full((1, 4, 8, 8), NAN)}, ValueError, "latents: .* finite"),
    ({"latents": torch.full((1, 4, 8, 8), INF)}, ValueError, "latents: .* finite"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS, ids=lambda x: repr(x)[:40])
def test_options_of_a_run(tiny_pipe, forwards, options, error, message):
    with pytest.raises(error, match=message):
        tiny_pipe(PROMPT, **{"steps": 1} | options)
    assert forwards == []


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), 3])
def test_any_whole_number_is_a_seed(tiny_pipe, seed):
    run = tiny_pipe(PROMPT, steps=1, seed=seed)
    assert torch.equal(run.latents, tiny_pipe(PROMPT, steps=1, seed=3).latents)
    assert type(run.seed) is int


TIMES = [
    (NAN, ValueError), (INF, ValueError), (-INF, ValueError), (1e30, ValueError),
    (-(10**9), ValueError), (True, TypeError), ("3", TypeError),
    (torch.tensor(NAN), ValueError), (torch.tensor([3.0, INF]), ValueError),
    (torch.tensor(10**9), ValueError), (np.float64(NAN), ValueError),
]  # fmt: skip


@pytest.mark.parametrize(("timestep", "error"), TIMES, ids=lambda x: repr(x)[:30])
def test_timesteps_of_a_forward(unet, inputs, timestep, error):
    worked = []
    unet.time_proj.register_forward_pre_hook(lambda *call: worked.append(1))
    with pytest.raises(error, match="timestep"):
        unet(inputs[0], timestep, inputs[2])
    assert worked == []


@pytest.mark.parametrize("t", [NAN, -1, 1000, 0.5, [500, NAN], True, []], ids=repr)
def test_timesteps_of_maps_of(tiny_pipe, forwards, t):
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises((ValueError, TypeError), match="t"):
        ux.maps_of(tiny_pipe, image, PROMPT, t=t)
    assert forwards == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seed": 1.5}, TypeError),
        ({"seed": True}, TypeError),
        ({"guidance_scale": NAN}, ValueError),
        ({"guidance_scale": INF}, ValueError),
    ],
    ids=repr,
)
def test_live_of_a_diffusers_pipeline_refuses(options, error):
    pipe, _ = build("sd")
    with pytest.raises(error, match=next(iter(options))):
        ux.live(pipe, PROMPT, steps=1, **options)


@pytest.mark.parametrize("seed", [1.5, True])
def test_live_refuses_a_seed(tiny_pipe, seed):
    with pytest.raises(TypeError, match="seed"):
        ux.live(tiny_pipe, PROMPT, steps=1, seed=seed)


# ---- on the command line


@pytest.fixture(scope="module")
def overflowing(tiny_folder, tmp_path_factory):
    """Folders whose weights are finite and whose pictures are not: of its UNet, of its VAE."""
    folders = {}
    for part, module in (("unet", MID), ("vae", "decoder.conv_in")):
        pipe = ux.load(tiny_folder, device="cpu")
        scale(getattr(pipe, part), module, 1e38)
        folders[part] = tmp_path_factory.mktemp(part) / "pipeline"
        shutil.copytree(tiny_folder, folders[part])
        getattr(pipe, part).save_pretrained(folders[part] / part)
    return folders


@pytest.mark.parametrize("command", ["heatmap", "tour"])
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_picture_of_nan_is_an_error(overflowing, part, command, tmp_path, capsys):
    out = tmp_path / "out" / ("heat.png" if command == "heatmap" else "")
    what = [command, PROMPT] if command == "heatmap" else [command, "--prompt", PROMPT]
    arguments = ["--model", str(overflowing[part]), "--device", "cpu", "--steps", "1"]
    assert main([*what, *arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err.split("\r")[-1].strip()  # after the progress bar, if any
    assert error.startswith("unet_explained: ")
    assert "\n" not in error
    assert "not finite" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option", [("--guidance", "nan"), ("--guidance", "inf"), ("--seed", str(2**70))]
)
def test_an_option_is_refused_before_anything_loads(tiny_folder, option, tmp_path, capsys):
    arguments = ["heatmap", PROMPT, "--model", str(tiny_folder), *option]
    assert main([*arguments, "--out", str(tmp_path / "out.png")]) == 2
    shown = capsys.readouterr()
    assert option[0].strip("-") in shown.err
    assert "loading" not in shown.out


@pytest.mark.browser
def test_pages_say_it_in_a_browser(chromium, nan_run, tmp_path):
    from lab import Browser

    run, rec = nan_run
    ux.explore(run, rec).to_html(tmp_path / "explore.html")
    ux.umap(run).to_html(tmp_path / "umap.html")
    browser = Browser(chromium)
    page = browser.page
    page.goto((tmp_path / "explore.html").as_uri())
    page.locator(".ux-word", has_text="red").click()
    assert "not finite" in page.locator(".ux-caption").text_content()
    assert "not finite" in page.locator(".ux-word", has_text="red").text_content()
    page.goto((tmp_path / "umap.html").as_uri())
    page.locator('[data-colour="activity"]').click()
    page.locator('[data-name="conv_out"] text', has_text="not finite").wait_for()
    assert browser.errors == []

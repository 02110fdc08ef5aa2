"""ux.live of diffusers' own pipelines: their picture, previews and word maps, while they run."""

import time

import numpy as np
import pipelines
import pytest
import torch

import unet_explained as ux
from unet_explained.run.preview import SD_LATENT_RGB, SDXL_LATENT_RGB, preview, rough
from unet_explained.widgets.live import live
from unet_explained.widgets.live_frames import drawn

RED, FISH = pipelines.RED, pipelines.FISH
WORDS = ["a", "red", "circle", "left", "of", "a", "blue", "square"]
WIDE = {"height": 64, "width": 96}


def built(kind: str):
    """A pipeline and what its call needs, without what the view gives it."""
    pipe, options = pipelines.build(kind)
    own = {"num_inference_steps": "steps"}
    kept = {own.get(name, name): value for name, value in options.items()}
    return pipe, {name: value for name, value in kept.items() if name != "output_type"}


def generator(seed: int = 0):
    return torch.Generator().manual_seed(seed)


def begun(view):
    """A view that has drawn a step of a run that goes on."""
    late = time.time() + 60
    while not view.frames and view.status == "running" and time.time() < late:
        time.sleep(0.01)
    assert view.status == "running", view.note
    return view


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_it_gives_what_the_pipeline_gives_and_leaves_it_as_it_was(kind):
    pipe, options = built(kind)
    before = dict(vars(pipe)), type(pipe)
    view = live(pipe, RED, seed=3, guidance_scale=4.0, **WIDE, **options)
    found = view.wait()
    assert (dict(vars(pipe)), type(pipe)) == before
    expected = pipe(RED, generator=generator(3), num_inference_steps=2, guidance_scale=4.0, **WIDE)
    assert type(found) is type(expected)
    assert np.array_equal(found.images[0], expected.images[0])
    assert (view.status, view.note, view.words) == ("finished", "", WORDS)
    assert view.picture.startswith(b"\x89PNG")
    assert not any(part._forward_pre_hooks for part in pipe.unet.modules())


@pytest.mark.parametrize(
    ("kind", "factor", "colours"),
    [("sd", 0.18215, SD_LATENT_RGB), ("xl", 0.13025, SDXL_LATENT_RGB)],
)
def test_a_frame_shows_the_latents_colours_and_the_recorded_maps(kind, factor, colours):
    pipe, options = built(kind)
    pipe.vae = pipelines.copy.deepcopy(pipe.vae)
    pipe.vae.register_to_config(scaling_factor=factor)
    view = live(pipe, RED, output_type="latent", **WIDE, **options)
    latents = view.wait().images
    first, last = view.frames
    assert (first.content["step"], last.content["step"]) == (0, 1)
    assert np.array_equal(
        last.preview, rough(latents / max(1, latents.std()), torch.tensor(colours))
    )
    assert last.maps.shape == (8, 8, 12)
    for number, frame in enumerate(view.frames):
        again = view.recording.replay(number, "conv_out", halves="both")
        given, said = view.recording.given(number)["sample"][1:], again["conv_out"][0][1:]
        assert frame.buffers[3] == rough(given, torch.tensor(colours)).tobytes()
        shown = np.frombuffer(frame.buffers[4], np.uint8).reshape(8, 12, 3).astype(int)
        assert np.abs(shown - rough(said, torch.tensor(colours))).max() <= 1
        assert frame.content["beside"][1]["about"] == "what it predicts for the prompt"
        for word, occurrence in (("circle", 0), ("a", 1)):
            expected = view.recording.attention(word, occurrence=occurrence, step=number)
            place = WORDS.index(word) if occurrence == 0 else 5
            error = np.abs(frame.maps[place] - expected.numpy()).max()
            assert error <= frame.content["top"] / 255
    assert set(last.content["modules"]) == {box["name"] for box in view.drawing["boxes"]}
    assert last.content["strongest"] > 0
    assert view.picture == b""  # latents are no picture


def test_the_layers_are_those_that_point_best_and_cost_little():
    _, layers = drawn(ux.UNetConfig.load("sd15"))
    assert {".".join(layer.split(".")[:2]) for layer in layers} == {"up_blocks.1", "up_blocks.2"}


def test_a_picture_to_begin_from_shortens_the_run():
    pipe, options = built("img2img")
    view = live(pipe, RED, **options)
    view.wait()
    assert options["steps"] == 4
    assert [(f.content["step"], f.content["total"]) for f in view.frames] == [(0, 2), (1, 2)]
    assert view.words == WORDS


def test_of_several_pictures_the_first_is_drawn():
    pipe, options = built("sd")
    view = live(pipe, RED, num_images_per_prompt=2, output_type="latent", **options)
    latents, frame = view.wait().images, view.frames[-1]
    assert len(latents) == 2
    assert np.array_equal(frame.preview, preview(pipe.vae, latents[:1]))
    assert not np.array_equal(frame.preview, preview(pipe.vae, latents[1:]))
    maps = [view.recording.attention("circle", step=1, picture=n).numpy() for n in (0, 1)]
    off = [np.abs(frame.maps[2] - heat).max() / frame.content["top"] for heat in maps]
    assert off[0] <= 1 / 255 < 5 / 255 < off[1]


@pytest.mark.parametrize("given", [{"output_type": "np"}, {"return_dict": False}])
def test_the_first_picture_is_shown_in_whatever_form_it_comes(given):
    pipe, options = built("sd")
    view = live(pipe, RED, **given, **options)
    view.wait()
    assert view.picture.startswith(b"\x89PNG")


def test_embeddings_from_elsewhere_have_no_words_and_that_is_said():
    pipe, options = built("sd")
    embeddings = torch.randn(1, 77, 24, generator=generator())
    view = live(pipe, "", prompt_embeds=embeddings, guidance_scale=1.0, **options)
    view.wait()
    assert (view.status, view.words) == ("finished", [])
    assert view.note.startswith("no word maps: embeddings that came from no text encoder")
    assert view.frames[-1].maps.size == 0
    assert view.still().startswith(b"\x89PNG")


def test_views_that_see_parts_of_a_picture_have_no_maps_of_it():
    pipe, options = built("panorama")
    view = live(pipe, RED, **options)
    view.wait()
    assert view.note == "no word maps: each forward of the UNet sees a part of the picture"
    assert view.frames[-1].preview.shape == (8, 72, 3)


def test_another_vae_decodes_latents_that_were_shrunk():
    pipe, options = built("sd")
    pipe.vae = pipelines.upscaling_vae()
    view = live(pipe, RED, height=96, width=640, **options)
    view.wait()
    assert view.frames[-1].preview.shape == (40, 256, 3)  # of 5 x 32 latents


def test_latents_that_no_vae_decodes_have_no_preview_and_that_is_said():
    assert preview(None, torch.zeros(1, 4, 8, 8)) is None
    assert preview(pipelines.vae(), torch.zeros(1, 16, 8, 8)) is None
    nothing = torch.full((1, 4, 8, 8), torch.nan)
    assert preview(pipelines.upscaling_vae(), nothing) is None
    pipe, options = built("sd")
    view = live(pipe, RED, latents=nothing, output_type="latent", **options)
    view.wait()
    assert view.frames[-1].content["about"].startswith("no preview")
    assert view.frames[-1].preview.shape == (8, 8, 3)
    assert (view.frames[-1].preview == 128).all()


def test_stop_ends_it_between_two_modules_and_start_begins_another():
    pipe, _ = built("sd")
    view = begun(live(pipe, RED, steps=900))
    start = time.perf_counter()
    view.stop()
    assert time.perf_counter() - start < 0.5
    assert view.status == "stopped"
    assert view.recording.runs[0].finished is False
    with pytest.raises(RuntimeError, match="stopped before its end"):
        view.wait()
    view.start(FISH)
    begun(view)
    assert view.words == FISH.split()
    view.stop()
    assert not any(part._forward_pre_hooks for part in pipe.unet.modules())


def test_the_pipeline_can_be_called_meanwhile():
    pipe, _ = built("sd")
    expected = pipelines.run(pipe, FISH, num_inference_steps=3, output_type="latent")
    view = begun(live(pipe, RED, steps=200))
    beside = pipelines.run(pipe, FISH, num_inference_steps=3, output_type="latent")
    assert view.status == "running"
    view.stop()
    assert torch.equal(beside, expected)
    assert (view.words, view.note) == (WORDS, "")
    assert len(view.recording.runs) == 1


def test_two_views_of_one_pipeline_each_show_their_own():
    pipe, _ = built("sd")
    steps = {RED: 12, FISH: 7}
    views = [live(pipe, prompt, steps=count, seed=4) for prompt, count in steps.items()]
    pictures = [view.wait().images[0] for view in views]
    assert [view.words for view in views] == [WORDS, FISH.split()]
    assert [view.note for view in views] == ["", ""]
    for (prompt, count), picture in zip(steps.items(), pictures):
        alone = pipe(prompt, generator=generator(4), num_inference_steps=count).images[0]
        assert np.array_equal(picture, alone)


def test_what_goes_wrong_in_the_pipeline_is_said(monkeypatch):
    pipe, options = built("sd")
    view = live(pipe, RED, prompt_embeds=torch.zeros(1, 77, 24), **options)
    with pytest.raises(ValueError, match="Cannot forward both"):
        view.wait()
    assert view.status == "failed"
    assert view.note.startswith("ValueError: ")

    def broken(*args, **kwargs):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr(pipe.vae, "decode", broken)
    view = live(pipe, RED, **options)
    with pytest.raises(MemoryError, match="no room"):
        view.wait()
    assert view.note == "MemoryError: no room for a picture"


@pytest.mark.slow
def test_where_every_steps_maps_are_too_much_their_mean_is_drawn():
    pipe, _ = built("sd")
    view = begun(live(pipe, RED, steps=900, height=640, width=640))
    view.stop()
    assert view.recording.options.attention == "sum"
    assert "word maps are of all so far" in view.note
    assert view.frames[0].maps.shape == (8, 80, 80)


def test_bad_input_is_refused_before_any_work():
    pipe, _ = built("sd")
    sag, _ = built("sag")
    animated, _ = built("animate")
    with pytest.raises(TypeError, match=r"takes no callback_on_step_end: record it, `with ux\."):
        live(sag, RED)
    for other in (animated, pipe.unet, None):
        with pytest.raises(TypeError, match="has no UNet2DConditionModel"):
            live(other, RED)
    for options, words in (
        ({"generator": generator()}, "generator: .* pass seed="),
        ({"num_inference_steps": 3}, "num_inference_steps: .* pass steps="),
        ({"callback_on_step_end": print}, "leave it out"),
        ({"guidance_scal": 3}, "no option of a StableDiffusionPipeline's .*guidance_scale"),
    ):
        with pytest.raises(TypeError, match=words):
            live(pipe, RED, **options)
    with pytest.raises(TypeError, match="prompt: expected one string"):
        live(pipe, [RED, FISH])
    with pytest.raises(ValueError, match="steps: expected 1 or more"):
        live(pipe, RED, steps=0)


def test_a_saved_page_holds_every_frame(tmp_path):
    pipe, options = built("xl")
    view = live(pipe, RED, **options)
    view.wait()
    page = view.to_html(tmp_path / "run.html").read_text()
    assert "the picture so far, noise and all," in page
    assert sum("frame" in asked for asked in view.baked()) == len(view.frames) == 2

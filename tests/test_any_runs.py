"""Runs of diffusers' pipelines: told apart, said to be unfinished, replayed; and image prompts."""

import diffusers
import pytest
import torch
from any_cases import IMAGE_WIDTH, ip
from kernels import Kernels
from pipeline_cases import embedding
from pipelines import FISH, FROG, RED, build, run

import unet_explained as ux


def texts_of(recorded_run) -> list[list[str | None]]:
    """Forward by forward, row by row."""
    return [[row.text and row.text.text for row in step.batch] for step in recorded_run.steps]


def same_map(rec, truth: Kernels, forward: int, row: int, **chosen) -> None:
    for layer in truth.layers:
        expected = truth.mean(forward, layer, row)
        actual = rec.weights(layer, **chosen)
        torch.testing.assert_close(actual.double(), expected, atol=2e-3, rtol=0)


def test_two_calls_are_two_runs():
    pipe, options = build("sd")
    with Kernels(pipe.unet) as truth:
        run(pipe, RED, **options)
        run(pipe, FISH, seed=1, **options)
    with ux.record(pipe) as rec:
        run(pipe, RED, **options)
        assert len(rec.runs) == 1
        assert rec.runs[0].finished
        run(pipe, FISH, seed=1, **options)
    assert [len(one.steps) for one in rec.runs] == [2, 2]
    assert [one.finished for one in rec.runs] == [True, True]
    assert texts_of(rec.runs[0]) == [["", RED]] * 2
    assert texts_of(rec.runs[1]) == [["", FISH]] * 2
    with pytest.raises(ValueError, match="2 runs were recorded"):
        rec.attention("fish")
    for number in (0, 1):
        same_map(rec, truth, 2 * number + 1, 1, run=number, step=1)
    with pytest.raises(ValueError, match="'fish' is not in the prompt"):
        rec.attention("fish", run=0)


def test_the_same_prompt_twice_is_two_runs():
    pipe, options = build("sd")
    with ux.record(pipe, attention=None) as rec:
        run(pipe, RED, **options)
        run(pipe, RED, **options)
    assert [len(one.steps) for one in rec.runs] == [2, 2]


def test_pipelines_that_share_their_parts():
    pipe, options = build("sd")
    other = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components)
    other.set_progress_bar_config(disable=True)
    changed = build("img2img")[1]
    with ux.record(pipe, halves="both") as rec:
        run(pipe, RED, negative_prompt=FROG, **options)
        run(other, FISH, negative_prompt=FROG, **changed)
    assert [texts_of(one) for one in rec.runs] == [[[FROG, RED]] * 2, [[FROG, FISH]] * 2]
    for step in rec.runs[1].steps:
        known = [row.role for row in step.batch]
        assert known in ([None, None], ["unconditional", "conditional"])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_call_that_a_callback_ends_is_unfinished_and_the_next_is_whole(error):
    pipe, options = build("sd")

    def stop(pipe, step, timestep, values):
        raise error("enough")

    with ux.record(pipe) as rec:
        with pytest.raises(error, match="enough"):
            run(pipe, RED, callback_on_step_end=stop, **options)
        run(pipe, FISH, **options)
    assert [one.finished for one in rec.runs] == [False, True]
    assert [len(one.steps) for one in rec.runs] == [1, 2]
    assert texts_of(rec.runs[1]) == [["", FISH]] * 2
    assert "1 (unfinished), 2" in repr(rec)
    assert rec.attention("circle", run=0).shape == (8, 8)


def test_a_call_within_a_callback_of_another():
    outer, options = build("sd")
    inner = diffusers.StableDiffusionPipeline(**outer.components)
    inner.set_progress_bar_config(disable=True)

    def within(pipe, step, timestep, values):
        if step == 0:
            run(inner, FISH, seed=1, **options)
        return values

    with ux.record(outer) as rec:
        run(outer, RED, callback_on_step_end=within, **options)
    found = {str(texts_of(one)[0]): len(one.steps) for one in rec.runs}
    assert found == {str(["", RED]): 2, str(["", FISH]): 2}


REPLAYED = ["sd", "controlnet", "controlnets", "guess", "t2i", "pag", "xl", "xl_t2i", "upscale"]


@pytest.mark.parametrize("kind", [*REPLAYED, "ip-adapter"])
def test_a_forward_again_is_that_forward(kind):
    pipe, options = build("sd" if kind == "ip-adapter" else kind)
    if kind == "ip-adapter":
        options |= image_prompt(pipe)
    kept = dict(attention="heads", halves="both", self_attention=True)
    with ux.record(pipe, "mid_block", "conv_out", **kept) as rec:
        run(pipe, **options)
    for step in (0, 1):
        again = rec.replay(step, "mid_block", "conv_out", **kept)
        for name in ("mid_block", "conv_out"):
            assert torch.equal(again[name][0], rec[name][step])
        assert again.runs[0].steps[0].batch == rec.runs[0].steps[step].batch
        assert again.timesteps == rec.timesteps[step : step + 1]
        assert list(again.layers) == list(rec.layers)
        for layer in rec.layers:
            for row in rec.runs[0].steps[step].batch:
                one = dict(half=row.role, picture=row.picture)
                now, then = again.weights(layer, **one), rec.weights(layer, step=step, **one)
                assert torch.equal(now, then)


def test_a_forward_whose_ip_adapter_is_gone_is_that_forward_or_refused():
    pipe, options = build("sd")
    options |= image_prompt(pipe)
    with ux.record(pipe, "conv_out") as rec:
        run(pipe, **options)
    pipe.unload_ip_adapter()
    try:
        again = rec.replay(1, "conv_out")
    except ValueError:
        return
    assert torch.equal(again["conv_out"][0], rec["conv_out"][1])


def image_prompt(pipe) -> dict:
    """An IP-Adapter in a pipeline, and its argument: the negative's row, then the prompt's."""
    ip(0.5)(pipe.unet)
    generator = torch.Generator().manual_seed(9)
    return {"ip_adapter_image_embeds": [torch.randn(2, 1, IMAGE_WIDTH, generator=generator)]}


def test_image_prompts_of_a_pipeline():
    pipe, options = build("sd")
    options |= image_prompt(pipe)
    with Kernels(pipe.unet) as truth:
        expected = run(pipe, negative_prompt=FROG, **options)
    with ux.record(pipe, halves="both") as rec:
        assert torch.equal(run(pipe, negative_prompt=FROG, **options), expected)
    assert texts_of(rec.runs[0]) == [[FROG, RED]] * 2
    assert rec.unknown == []
    for row, half in enumerate(("unconditional", "conditional")):
        same_map(rec, truth, 1, row, step=1, half=half)
        for layer, size in rec.layers.items():
            image = truth.mean(1, layer, row, softmax=1)
            actual = rec.weights(layer, image_prompt=0, step=1, half=half)
            torch.testing.assert_close(actual.double(), image, atol=2e-3, rtol=0)
            one = rec.attention(token=2, image_prompt=0, layer=layer, step=1, half=half)
            torch.testing.assert_close(one.double(), image[:, 2].view(size), atol=2e-3, rtol=0)


def test_a_controlnets_attentions_are_not_the_unets():
    pipe, options = build("controlnets")
    with ux.record(pipe, stats=True) as rec:
        run(pipe, **options)
    names = dict(pipe.unet.named_modules())
    assert all(layer in names for layer in rec.layers)
    assert [call.name for call in rec.calls].count("conv_in") == 1
    assert len(rec.runs[0].steps) == 2
    assert all(len(values) == 2 for values in rec.stats.values())


def test_a_pipelines_unet_alone_gives_the_maps_and_says_that_nobody_named_the_rows():
    pipe, options = build("sd")
    with Kernels(pipe.unet) as truth:
        expected = run(pipe, **options)
    with ux.record(pipe.unet) as rec:
        assert torch.equal(run(pipe, **options), expected)
    assert [row.text for row in rec.runs[0].steps[0].batch] == [None, None]
    for row in (0, 1):
        same_map(rec, truth, 1, row, step=1, picture=row)
    with pytest.raises(ValueError, match="token="):
        rec.attention("circle", picture=1)


OTHERS = ["sag", "panorama", "excite", "animate"]


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("kind", OTHERS)
def test_of_other_pipelines_what_is_said_is_right(kind):
    pipe, options = build(kind)
    with Kernels(pipe.unet) as truth:
        expected = run(pipe, negative_prompt=FROG, **options)
    with ux.record(pipe, halves="both") as rec:
        assert torch.equal(run(pipe, negative_prompt=FROG, **options), expected)
    steps = [step for one in rec.runs for step in one.steps]
    assert len(steps) == len(truth.forwards)
    if not rec.layers:
        assert rec.unknown
        assert all(row.text is None for step in steps for row in step.batch)
    else:
        left = list(range(len(steps)))
        for step in steps:
            forward = next(index for index in left if is_of(step, truth, index, truth.layers[0]))
            left.remove(forward)
            rows_are_right(pipe, step.batch, truth.contexts[forward])


def rows_are_right(pipe, rows, context) -> None:
    """Whatever text and role a row is said to have, it has."""
    roles = {RED: "conditional", FROG: "unconditional"}
    assert len(rows) == len(context)
    for row, embeds in zip(rows, context):
        if row.text is not None:
            own = embedding(pipe, row.text.text)
            torch.testing.assert_close(embeds, own, atol=1e-5, rtol=0)
            assert (row.role or "").partition("#")[0] in ("", roles[row.text.text])


def is_of(step, truth: Kernels, forward: int, layer: str) -> bool:
    """Whether a recorded forward is this one, by the weights of one layer."""
    expected = truth.forwards[forward][layer][0].mean(dim=1)
    kept = step.attention[layer].double()
    return kept.shape == expected.shape and torch.allclose(kept, expected, atol=2e-3, rtol=0)


def test_a_unet_whose_weights_come_only_while_they_are_needed():
    accelerate = pytest.importorskip("accelerate")
    pipe, options = build("sd")
    with ux.record(pipe) as plain:
        expected = run(pipe, RED, **options)
    accelerate.cpu_offload(pipe.unet, execution_device="cpu")
    assert next(pipe.unet.parameters()).is_meta
    with ux.record(pipe) as rec:
        assert torch.equal(run(pipe, RED, **options), expected)
    assert rec.unknown == []
    again = rec.replay(1)
    for layer in plain.layers:
        assert torch.equal(rec.weights(layer), plain.weights(layer))
        assert torch.equal(again.weights(layer), plain.weights(layer, step=1))

"""The contract with users, on a tiny random pipeline: what the README shows runs as it stands."""

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import unet_explained as ux

PROMPT = "a red circle left of a blue square"


@pytest.fixture(scope="module")
def pipe(tiny_folder):
    return ux.load(tiny_folder, device="cpu")


def test_shapes_of_a_preset_need_no_weights():
    table = ux.shape_table("sd15")
    assert table.total_params == 859_520_964
    assert "4096" in str(table)
    assert "<table" in table._repr_html_()
    assert len(table.to_pandas()) == len(table.rows)
    assert "query=4096" in table.to_csv()


def test_a_unet_from_a_preset_and_from_a_folder(tiny_folder, tiny_config):
    ours = ux.UNet2DConditionModel.from_config(tiny_config, seed=0)
    loaded = ux.UNet2DConditionModel.from_pretrained(tiny_folder / "unet")
    assert ours.state_dict().keys() == loaded.state_dict().keys()


def test_a_prompt_becomes_a_run(pipe):
    run = pipe(PROMPT, steps=2, seed=0)
    assert isinstance(run.image, Image.Image)
    assert run.image.size == (64, 64)
    assert run.latents.shape == (1, 4, 8, 8)
    assert run.prompt.words == tuple(PROMPT.split())


def test_a_run_can_be_stepped_through(pipe):
    steps = list(pipe.denoise("a red circle", steps=3))
    assert [step.index for step in steps] == [0, 1, 2]
    assert steps[0].timestep > steps[2].timestep
    assert steps[1].latents.shape == (1, 4, 8, 8)
    assert steps[1].preview().size == (64, 64)


def test_a_step_can_be_looked_at_again(pipe):
    run = pipe(PROMPT, steps=3, seed=0)
    seen = run.replay(1, "mid_block*")
    assert seen["mid_block"][0].shape == (2, 64, 1, 1)
    assert seen.attention("circle").shape == (8, 8)


def test_a_run_is_recorded(pipe):
    name = "down_blocks.0.attentions.0"
    with ux.record(pipe.unet, name) as rec:
        run = pipe(PROMPT, steps=2, seed=0)
    assert "query=64" in str(rec.shapes)
    assert [value.shape for value in rec[name]] == [(2, 16, 8, 8)] * 2
    heat = rec.attention("circle")
    assert heat.shape == (8, 8)
    assert heat.dtype == torch.float32
    assert tuple(rec.timesteps) == run.timesteps
    assert isinstance(ux.plot_heatmaps(run, rec), Figure)


def test_recording_does_not_change_the_picture(pipe):
    plain = pipe(PROMPT, steps=2, seed=1)
    with ux.record(pipe.unet):
        recorded = pipe(PROMPT, steps=2, seed=1)
    assert torch.equal(plain.latents, recorded.latents)


def test_public_names_are_the_documented_ones():
    for name in ux.__all__:
        assert getattr(ux, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ux.nonsense

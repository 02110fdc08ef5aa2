"""A stage of training learns and resumes; the optimiser of its matrices."""

import json

import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

from training.loop import Stage, run_stage
from training.models import build_unet
from training.muon import Muon, optimizers, orthogonal


class Line(nn.Module):
    """The smallest thing that can be trained."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x):
        noise = 0.01 * torch.randn(len(x), 1)
        return (self.layer(x) - x.sum(1, keepdim=True) + noise).square().mean()


class Stop(Exception):
    """Raised to interrupt a stage."""


def fit(folder, muon=False, **options) -> nn.Module:
    def inputs(rng):
        return {"x": torch.tensor([[rng.random() for _ in range(3)] for _ in range(8)])}

    torch.manual_seed(0)
    stage = Stage("line", 60, 8, 0, 0.1, muon=muon)
    return run_stage(Accelerator(cpu=True), stage, Line(), inputs, folder, save_every=30, **options)


@pytest.mark.parametrize("muon", [False, True])
def test_a_stage_learns_and_resumes_exactly(tmp_path, muon):
    def interrupt(model, step):
        raise Stop

    whole = fit(tmp_path / "whole", muon)
    lines = (tmp_path / "whole" / "checkpoint" / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < 0.8 * losses[0]
    average = torch.load(tmp_path / "whole" / "checkpoint" / "average.pt", weights_only=True)[
        "shadow_params"
    ]
    assert all(map(torch.equal, whole.parameters(), average)), "the averaged weights are left"
    with pytest.raises(Stop):
        fit(tmp_path / "cut", muon, on_save=interrupt)
    resumed = fit(tmp_path / "cut", muon)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_that_is_broken_off_leaves_the_one_before(tmp_path, monkeypatch):
    def interrupt(average):
        raise Stop

    whole = fit(tmp_path / "whole")
    by_step = {30: EMAModel.state_dict, 60: interrupt}  # asked for once the weights are written
    with monkeypatch.context() as patch:
        patch.setattr(EMAModel, "state_dict", lambda self: by_step[self.optimization_step](self))
        with pytest.raises(Stop):
            fit(tmp_path / "cut")
    resumed = fit(tmp_path / "cut")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    logs = [tmp_path / name / "checkpoint" / "log.jsonl" for name in ("whole", "cut")]
    assert len({log.read_text().count("\n") for log in logs}) == 1


def test_muon_is_torch_s_for_a_matrix_and_takes_a_kernel_as_one():
    torch.manual_seed(0)
    kernel, matrix = nn.Conv2d(6, 10, 3, bias=False), nn.Linear(54, 10, bias=False)
    matrix.weight.data = kernel.weight.detach().flatten(1).clone()
    before = matrix.weight.detach().clone()
    ours = Muon(kernel.parameters(), 0.01)
    theirs = torch.optim.Muon(
        matrix.parameters(), lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        gradient = torch.randn(10, 54)
        kernel.weight.grad, matrix.weight.grad = gradient.view(10, 6, 3, 3), gradient
        ours.step()
        theirs.step()
    difference = (kernel.weight.flatten(1) - matrix.weight).norm()
    assert difference < 0.03 * (matrix.weight - before).norm(), "torch's own works in bfloat16"


@pytest.mark.parametrize("shape", [(24, 216), (128, 32)])
def test_a_step_of_muon_goes_equally_far_in_all_directions(shape):
    torch.manual_seed(0)
    stretched = torch.randn(1, *shape) * torch.linspace(0.1, 1, shape[1])
    values = torch.linalg.svdvals(orthogonal(stretched))
    assert 0.6 < values.min() < values.max() < 1.3


def test_muon_takes_the_inner_matrices_and_adamw_the_rest():
    unet = build_unet(0)
    muon, adamw = optimizers(unet, 0.1, True)
    matrices = {id(each) for each in muon.param_groups[0]["params"]}
    rest = {id(each) for each in adamw.param_groups[0]["params"]}
    assert id(unet.mid_block.resnets[0].conv1.weight) in matrices
    assert {id(unet.conv_in.weight), id(unet.mid_block.resnets[0].conv1.bias)} <= rest
    assert not matrices & rest
    assert matrices | rest == {id(each) for each in unet.parameters()}

"""The UNet's loss: its noise, its target, its timesteps, and its inner levels alone."""

import math
from random import Random

import pytest
import torch
from torch import nn
from training_helpers import diffusion_loss, two_things

from training.diffusion import expected, noise_scale
from training.inner import InnerUNet, hand_over
from training.models import build_scheduler, build_unet
from training.reading import reading_batch
from training.tokenizer import build_tokenizer
from unet_explained.diffusion import levels


def test_the_last_step_is_noise_alone():
    assert build_scheduler().alphas_cumprod[-1] == 0


def test_noise_of_small_latents_is_what_averaging_leaves():
    torch.manual_seed(0)
    whole = torch.randn(8, 4, 64, 64)
    averaged = nn.functional.avg_pool2d(whole, 4)
    assert noise_scale(whole) == 1
    assert noise_scale(averaged) == pytest.approx(averaged.std().item(), rel=0.05)


@pytest.mark.parametrize("level", [1, 2])
def test_the_next_level_first_gives_the_trained_ones_what_they_know(level):
    unet = build_unet(0)
    part = InnerUNet(unet, level)
    nn.init.normal_(part.conv_in.weight)
    nn.init.normal_(part.conv_in.bias)
    hand_over(unet, part, level)
    around = InnerUNet(unet, level - 1) if level > 1 else unet
    given = []
    unet.down_blocks[level].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    sample = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        around(sample, torch.tensor(5), torch.randn(2, 77, 96), return_dict=False)
        known = part.conv_in(nn.functional.avg_pool2d(sample, 2))
    assert torch.allclose(given[0], known, atol=1e-5)


@pytest.mark.parametrize("level", [1, 2])
def test_an_inner_unet_trains_the_levels_it_shares(level):
    unet = build_unet(0)
    part = InnerUNet(unet, level)
    nn.init.ones_(part.conv_out.weight)  # it starts at zero, which stops all other gradients
    sample, context, time = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 96), torch.tensor([10])
    (output,) = part(sample, time, context)
    assert output.shape == sample.shape
    output.square().mean().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
    assert unet.mid_block.resnets[0].conv1.weight.grad is not None
    assert unet.conv_in.weight.grad is None


def mixture(kept):
    """signal and sigma, of such shares of the variance that are no noise."""
    return levels(kept, torch.arange(len(kept)))


def test_the_target_is_what_can_be_known():
    torch.manual_seed(0)
    others, noisy = torch.randn(2, 1, 3, 4, 2, 2), torch.randn(2, 4, 2, 2)
    alike, kept = torch.tensor([[[True, True, False]]] * 2), torch.tensor([0.3, 0.05])
    for scale in (1.0, 0.5):
        latents, noise = expected(others[:, 0, 0], others, alike, noisy, *mixture(kept), scale)
        for row, share in enumerate(kept.tolist()):
            odds = []  # Bayes' rule, one number at a time
            for other in others[row, 0, :2]:
                pairs = zip(noisy[row].flatten().tolist(), other.flatten().tolist())
                variance = (1 - share) * scale**2
                missed = [(n - share**0.5 * x) ** 2 / (2 * variance) for n, x in pairs]
                odds.append(math.prod(math.exp(-each) for each in missed))
            mean = sum(odd * other for odd, other in zip(odds, others[row, 0])) / sum(odds)
            assert torch.allclose(latents[row], mean, atol=1e-5)
            mixed = share**0.5 * latents[row] + (1 - share) ** 0.5 * noise[row]
            assert torch.allclose(mixed, noisy[row], atol=1e-6)

    one = others[:, 0, 0]
    lost, _ = expected(one, others, alike, noisy, *mixture(torch.zeros(2)))
    assert torch.allclose(lost, others[:, 0, :2].mean(1), atol=1e-6), "in pure noise all alike"
    clear = 0.99**0.5 * others[:, 0, 1] + 0.1 * noisy
    found, _ = expected(one, others, alike, clear, *mixture(torch.tensor([0.99, 0.99])))
    assert torch.allclose(found, others[:, 0, 1], atol=1e-3)


def test_of_each_part_is_told_what_can_be_known_of_it():
    latents = torch.zeros(1, 4, 2, 4)
    others = latents[:, None, None].repeat(1, 2, 2, 1, 1, 1)
    others[:, 0, 1, :, :, 0], others[:, 1, 1, :, :, 3] = 2.0, 4.0
    alike = torch.ones(1, 2, 2, dtype=torch.bool)
    lost, _ = expected(latents, others, alike, latents, *mixture(torch.zeros(1)))
    assert torch.equal(lost[0, 0, 0], torch.tensor([1.0, 0, 0, 2.0]))


@pytest.mark.parametrize("name", ["windows", "whole"])
def test_training_is_on_that_target(name):
    torch.manual_seed(0)
    loss = diffusion_loss()
    album = two_things()
    give = album.windows if name == "windows" else album.batch
    batch = give(Random(1), 16, build_tokenizer(), torch.device("cpu"))
    own = (batch["others"] == batch["latents"][:, None, None]).all((3, 4, 5))
    totals = []
    for inputs in (batch, batch | {"alike": own}):
        torch.manual_seed(0)
        with torch.no_grad():
            totals.append(loss(**{name: inputs}).item())
    assert totals[0] < totals[1] - 0.1, "less variance: the untrained network answers 0"


def test_most_timesteps_of_windows_are_where_kinds_are_decided(monkeypatch):
    loss = diffusion_loss()
    asked = {}
    monkeypatch.setattr(
        loss, "denoising", lambda latents, times, where: asked.update({where: times}) or 0.0
    )
    torch.manual_seed(0)
    loss({"latents": torch.empty(2000, 4, 64, 64)}, {"latents": torch.empty(2000, 4, 24, 24)})
    whole, windows = asked[True], asked[False]
    assert 0 <= windows.min() < 20 < 880 < windows.max() < 900
    assert whole.max() > 980, "the last ones lay things out"
    deciding = [((times >= 550) & (times < 850)).float().mean() for times in (whole, windows)]
    assert 0.49 < deciding[0] < 0.58, "a fifth, and two in five of the others by chance"
    assert 0.62 < deciding[1] < 0.71, "half, and a third of the others by chance"


def test_the_text_encoder_reads_on_while_the_unet_learns():
    torch.manual_seed(0)
    loss = diffusion_loss()
    batch = reading_batch(Random(0), 3, build_tokenizer())
    windows = two_things().windows(Random(0), 2, build_tokenizer(), torch.device("cpu"))

    def total(**inputs) -> float:
        torch.manual_seed(0)  # the noise
        with torch.no_grad():
            return loss(**inputs).item()

    alone, both = total(windows=windows), total(windows=windows, captions=batch)
    assert both - alone == pytest.approx(0.02 * loss.reading(**batch).item(), rel=1e-3)

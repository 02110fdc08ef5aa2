"""The page of maths: it turns back on itself, and says what diffusers' schedulers say."""

import pytest
import torch
from diffusers import DDIMScheduler

from unet_explained import diffusion

KINDS = ("epsilon", "v_prediction", "sample")


@pytest.fixture
def scheduler():
    """Stable Diffusion's own noise, with as many steps as timesteps."""
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)
    scheduler.set_timesteps(1000)
    return scheduler


@pytest.fixture
def mixed(scheduler):
    """Pictures, noise, timesteps, and their levels."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 8, 6, generator=generator)
    times = torch.tensor([10, 500, 980])
    return clean, noise, times, diffusion.levels(scheduler.alphas_cumprod, times)


def test_picture_and_noise_share_the_variance(mixed):
    signal, sigma = mixed[-1]
    torch.testing.assert_close(signal**2 + sigma**2, torch.ones(3, 1, 1, 1))
    assert (signal.diff(dim=0) < 0).all()


def test_a_timestep_between_two_is_rounded_down(scheduler):
    between = diffusion.levels(scheduler.alphas_cumprod, torch.tensor([500.9]))
    whole = diffusion.levels(scheduler.alphas_cumprod, torch.tensor([500]))
    assert between == whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_prediction_gives_the_picture_back(mixed, kind):
    clean, noise, _, levels = mixed
    noisy = diffusion.noised(clean, noise, *levels)
    right = dict(zip(KINDS, (noise, diffusion.velocity(clean, noise, *levels), clean)))[kind]
    found = diffusion.denoised(kind, noisy, right, *levels)
    torch.testing.assert_close(found, clean, rtol=1e-4, atol=1e-4)


def test_noise_and_velocity_are_the_schedulers(scheduler, mixed):
    clean, noise, times, levels = mixed
    assert diffusion.noised(clean, noise, *levels).equal(scheduler.add_noise(clean, noise, times))
    velocity = diffusion.velocity(clean, noise, *levels)
    assert velocity.equal(scheduler.get_velocity(clean, noise, times))


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_from_a_prediction_is_the_schedulers(scheduler, mixed, kind):
    noisy, prediction, times, levels = mixed
    scheduler.register_to_config(prediction_type=kind)
    found = diffusion.denoised(kind, noisy, prediction, *levels)
    for i, time in enumerate(times):
        theirs = scheduler.step(prediction[i], int(time), noisy[i]).pred_original_sample
        torch.testing.assert_close(found[i], theirs)


def test_an_unknown_kind_is_refused(mixed):
    clean, noise, _, levels = mixed
    with pytest.raises(ValueError, match="'flow': expected 'epsilon', 'v_prediction' or 'sample'"):
        diffusion.denoised("flow", clean, noise, *levels)


def test_guidance_goes_from_without_the_prompt_through_with_it_and_on(mixed):
    without, with_prompt, *_ = mixed
    at = [diffusion.guided(without, with_prompt, scale) for scale in (0, 1, 3)]
    assert at[0].equal(without)
    torch.testing.assert_close(at[1], with_prompt)
    torch.testing.assert_close(at[2], 3 * with_prompt - 2 * without)


def test_shapes_that_do_not_fit_are_refused(mixed):
    clean, noise, _, (signal, sigma) = mixed
    with pytest.raises(TypeError):  # by the check of the signatures that tests run under
        diffusion.noised(clean, noise, signal[:, 0], sigma)

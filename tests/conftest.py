"""Fixtures, and the check of every shape annotation of model/ and diffusion.py in the tests.

JAXTYPING_DISABLE=1 switches the check off, for torch.compile, which does not mix with it.
"""

import os
import socket
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# One thread for each of the processes that share the tests, and for what they start. Threads wait
# for each other longer than a narrow model computes, and another number gives other last digits.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# The suite tries the same examples each time; UNET_EXAMPLES=5000 looks for new ones.
settings.register_profile("suite", derandomize="UNET_EXAMPLES" not in os.environ, database=None)
settings.load_profile("suite")

# config.py is left out: it takes JSON as it comes, with lists for tuples. An int is a float here.
TYPED = ("attention", "blocks", "embeddings", "inputs", "residuals", "resnet", "unet")
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
MODULES = ["unet_explained.diffusion", *(f"unet_explained.model.{name}" for name in TYPED)]
install_import_hook(MODULES, CHECKER)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What is long is slow, so that -m "not slow" leaves it out too."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")


# Small enough to run anywhere, with the levels, block types and head counts of Stable Diffusion.
TINY = {
    "block_out_channels": [16, 32, 64, 64],
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": [2, 4, 4, 8],
}


@pytest.fixture
def tiny_config() -> dict:
    """A UNet's config with SD 1.5's topology and few channels."""
    return dict(TINY)


@pytest.fixture
def tiny_unet(tiny_config):
    """A random UNet of that config; its forward is float32 on the CPU."""
    from unet_explained.model import UNet2DConditionModel

    return UNet2DConditionModel.from_config(tiny_config, seed=0)


@pytest.fixture
def unet(tiny_unet):
    """To be watched or changed, not trained."""
    return tiny_unet.requires_grad_(False)


@pytest.fixture
def sharp_unet(tiny_unet, randomised):
    """With sharp attention: default weights look everywhere alike and would hide any error."""
    for name, parameter in randomised(tiny_unet).named_parameters():
        if "to_q" in name or "to_k" in name:
            parameter.data *= 8
    return tiny_unet.requires_grad_(False)


@pytest.fixture
def inputs():
    """Latents, timestep and prompt for `unet`; the latents are not square."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 16, 24, generator=generator)
    return latents, torch.tensor(7), torch.randn(2, 77, 24, generator=generator)


@pytest.fixture
def randomised():
    """A function that makes every parameter of a model random.

    Default initialisation (scales 1, biases 0) hides swapped norms, a wrong eps and missing biases.
    """

    def fill(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_((0.1 * noise).to(parameter))
        return model

    return fill


@pytest.fixture
def no_network(monkeypatch):
    """Whoever asks for an address or a connection fails the test, even if the error is caught."""
    asked = []

    def refuse(*arguments, **options):
        asked.append(arguments)
        raise OSError("this test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not asked


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A whole random pipeline, made and saved by diffusers: pictures 64 x 64, 77 tokens."""
    import diffusers
    import transformers

    from training.tokenizer import build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    text_config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(text_config),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(sample_size=8, **TINY),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_pipe(tiny_folder):
    """That pipeline, loaded by this package, on the CPU."""
    import unet_explained

    return unet_explained.load(tiny_folder, device="cpu")


@pytest.fixture(scope="module")
def chromium():
    """A headless browser. Not for the whole session: while it lives, asyncio.run() cannot."""
    from lab import CHROMIUM, FLAGS

    if CHROMIUM is None:
        pytest.skip("no Chromium was found: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory) -> Path:
    """live.html and site/ in a folder: made once for all of pytest's processes."""
    from filelock import FileLock

    import unet_explained
    from unet_explained.page import build, runtime

    try:
        runtime.find_runtime()
    except OSError as error:
        pytest.skip(str(error))
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pages"
    with FileLock(f"{folder}.lock"):
        if not (folder / "site").exists():
            made = build.made(unet_explained.load(device="cpu", dtype="float32"), print)
            for name in ("live.html", "site"):
                build.write(folder / name, *made)
    return folder


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    """A running JupyterLab: lab.run("code of a cell", ...)."""
    from lab import jupyterlab

    with jupyterlab(chromium, tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def as_users_see_it():
    """Without the tests' check of shapes, which would often speak first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)

"""The bundled pipeline as a page: its networks against torch's, and what is refused."""

import gzip
import shutil
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import unet_explained as ux
from unet_explained import diffusion, extras
from unet_explained.model import attention_weights
from unet_explained.page import build, runtime
from unet_explained.recording.nested import activity, first
from unet_explained.run.preview import levels
from unet_explained.run.text import embed, read_prompt
from unet_explained.widgets.live_frames import drawn
from unet_explained.widgets.subject_maps import columns_of

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra: pip install -e '.[page]'",
)
PROMPT, SEED, STEPS = "a blue fish left of an orange house", 7, 3
PLACE = 0.3, 0.6  # the pixel that is looked at


@pytest.fixture(scope="module")
def pipe():
    return ux.load(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def parts(pipe):
    return [box["name"] for box in drawn(pipe.unet.config)[0]["boxes"]]


@pytest.fixture(scope="module")
def networks(pipe, parts):
    """The exported networks, as functions from arrays by name to arrays by name."""
    import onnxruntime

    from unet_explained.page.export import exported

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def runs(content: bytes):
        session = onnxruntime.InferenceSession(content, options)
        names = [output.name for output in session.get_outputs()]
        return lambda **given: dict(zip(names, session.run(None, given), strict=True))

    return {name: runs(content) for name, content in exported(pipe, parts).items()}


@pytest.fixture(scope="module")
def given(pipe):
    """Of the UNet: the prompt's row and the empty one's, and the columns of each."""
    prompts = [read_prompt(text, pipe.tokenizer) for text in ("", PROMPT)]
    told = [columns_of(prompt, 77) for prompt in prompts]
    columns = np.zeros((2, 77, max(map(len, told))), np.float32)
    for row, found in enumerate(told):
        for number, column in enumerate(found):
            columns[row, list(column.tokens), number] = 1
    context = torch.cat([embed(prompt, pipe.text_encoder) for prompt in prompts]).numpy()
    return {"context": context, "columns": columns, "place": np.array(PLACE, np.float32)}


@pytest.fixture(scope="module")
def forward(pipe, networks, given, parts):
    """One forward: what torch gives and its modules were given; and what the network gives."""
    sample = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(SEED))
    pairs, gave, hooks = {}, {}, []
    for name, module in pipe.unet.named_modules():
        if name.endswith(".attend"):
            keep = lambda m, args, out, name=name: pairs.__setitem__(name, args[:2])  # noqa: E731
            hooks.append(module.register_forward_hook(keep))
        if name in parts:
            keep = lambda m, args, out, name=name: gave.__setitem__(name, first(out))  # noqa: E731
            hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        prediction = pipe.unet(sample, 500, torch.tensor(given["context"])).sample
    for hook in hooks:
        hook.remove()
    time = np.array([500], np.float32)
    return (
        prediction,
        pairs,
        gave,
        networks["unet"](sample=sample.numpy(), timestep=time, **given),
    )


def close(found, expected, share: float) -> None:
    """Within a share of the expected numbers' range."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.ptp(expected))


@needs_onnx
@pytest.mark.slow
def test_the_text_encoder_is_torchs(pipe, networks):
    for prompt in (PROMPT, "", "word " * 90):
        ids = pipe.tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt")
        expected = pipe.text_encoder(ids.input_ids)[0].detach()
        close(networks["text"](ids=ids.input_ids.numpy())["context"], expected, 1e-5)


@needs_onnx
@pytest.mark.slow
def test_a_forward_is_torchs(forward, parts):
    prediction, pairs, gave, found = forward
    close(found["prediction"], prediction, 1e-4)
    close(found["activity"], torch.stack([activity(gave[name]) for name in parts]), 1e-4)
    for name in parts:
        close(found[name], gave[name], 1e-4)
    assert len(pairs) == 32


@needs_onnx
@pytest.mark.slow
def test_every_words_map_is_torchs(forward, given):
    _, pairs, _, found = forward
    names = [name.removesuffix(".attend") for name in pairs if "attn2" in name]
    assert set(names) == {name for name in found if "attn2" in name}
    for name in names:
        weights = attention_weights(*pairs[f"{name}.attend"])
        expected = torch.einsum("bhqk,bkc->bhcq", weights, torch.tensor(given["columns"]))
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-4)


@needs_onnx
@pytest.mark.slow
def test_where_a_pixel_looks_is_torchs(forward):
    _, pairs, _, found = forward
    for name in (name for name in found if "attn1" in name):
        q, k = pairs[f"{name}.attend"]
        side = int(q.shape[2] ** 0.5)
        pixel = int(PLACE[0] * side) * side + int(PLACE[1] * side)
        np.testing.assert_allclose(
            found[name], attention_weights(q, k)[:, :, pixel], rtol=0, atol=1e-4
        )


@needs_onnx
@pytest.mark.slow
def test_a_row_alone_is_the_same(forward, networks, given):
    """As the page asks where a pixel of one half looks."""
    *_, both = forward
    sample = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(SEED))[1:]
    alone = {name: given[name][1:] for name in ("context", "columns")}
    time = np.array([500], np.float32)
    found = networks["unet"](sample=sample.numpy(), timestep=time, place=given["place"], **alone)
    close(found["prediction"][0], both["prediction"][1], 1e-5)


@needs_onnx
@pytest.mark.slow
def test_a_run_comes_to_the_same_picture(pipe, networks, given):
    run = pipe(PROMPT, seed=SEED, steps=STEPS)
    scheduler = pipe.scheduler
    scheduler.set_timesteps(STEPS)
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(SEED))
    for timestep in scheduler.timesteps:
        time = timestep[None].float().numpy()
        sample = latents.repeat(2, 1, 1, 1).numpy()
        prediction = torch.tensor(
            networks["unet"](sample=sample, timestep=time, **given)["prediction"]
        )
        prediction = diffusion.guided(prediction[:1], prediction[1:], pipe.guidance)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    close(latents, run.latents, 1e-4)
    picture = torch.tensor(networks["vae"](latents=latents.numpy())["picture"])
    shown = levels(picture[0].permute(1, 2, 0)).astype(int)
    assert np.abs(shown - np.asarray(run.image).astype(int)).max() <= 1


def test_a_missing_extra_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnxscript" else name)
    monkeypatch.setattr(build, "load", None)
    with pytest.raises(ImportError, match=r"onnxscript.*unet-explained\[page\]"):
        build.build(tmp_path / "live.html")


@needs_onnx
def test_a_place_that_cannot_be_written_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "load", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="is a file"):
        build.build(tmp_path / "file" / "live.html")


def test_without_npm_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OSError, match=r"needs npm once.*or put onnxruntime-web-.*there by hand"):
        runtime.find_runtime()


@pytest.mark.parametrize("what", ["fails", "another"])
def test_what_npm_does_not_fetch_is_not_used(tmp_path, monkeypatch, what):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    npm = tmp_path / "npm"
    script = f"#!{sys.executable}\nimport sys, pathlib\n"
    if what == "fails":
        script += "sys.exit('npm ERR! network unreachable')\n"
    else:
        script += (
            f"pathlib.Path(sys.argv[-1], 'onnxruntime-web-{runtime.VERSION}.tgz').write_text('')\n"
        )
    npm.write_text(script)
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = {"fails": "network unreachable.*go online once", "another": "is not what it was"}
    with pytest.raises((OSError, ValueError), match=said[what]):
        runtime.find_runtime()
    assert not list((tmp_path / "cache").rglob("*.tgz"))


def test_parts_are_packed_the_same_each_time():
    assert build.packed(b"abc") == build.packed(b"abc")
    assert gzip.decompress(build.packed(b"abc")) == b"abc"

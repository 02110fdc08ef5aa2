"""Names and places: what is fetched of a hub id, what is said when it cannot be had."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import diffusers
import pipelines
import pytest
import torch
from hub_server import serving

import unet_explained as ux
from unet_explained.run.files import Search
from unet_explained.run.hub import find_config, find_unet

ID = "people/tiny-1.0"
UNET = ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
CONFIG = "from unet_explained.run import files, hub; print(hub.find_config({!r}, files.Search()))"


@pytest.fixture(scope="module")
def repositories(tiny_folder, tmp_path_factory):
    """A pipeline with more files than are needed, one of another kind, a UNet in fp16 shards."""
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(tiny_folder, root / ID)
    for name in ("tiny.ckpt", "README.md", "unet/diffusion_pytorch_model.bin", "vae/extra.json"):
        (root / ID / name).write_text("not needed")
    shutil.copytree(tiny_folder, root / "people/xl")
    index = json.loads((tiny_folder / "model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    (root / "people/xl/model_index.json").write_text(json.dumps(index))
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny_folder / "unet")
    unet.half().save_pretrained(root / "people/shards", variant="fp16", max_shard_size="500KB")
    (root / "people/empty").mkdir()
    (root / "people/empty/README.md").write_text("nothing")
    return root


@pytest.fixture
def hub(repositories, tmp_path, monkeypatch):
    """That hub, serving, with an empty cache: what HF_ENDPOINT and HF_HUB_CACHE would set."""
    with serving(repositories) as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield hub


def command(hub_url, cache, *arguments, **environment):
    """A command in a process of its own: output, errors and exit status; and its seconds."""
    names = {"HF_ENDPOINT": hub_url, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **names, **environment},
        capture_output=True, text=True,
    )  # fmt: skip
    return done, time.perf_counter() - start


def same(unet, folder) -> bool:
    ours, theirs = unet.state_dict(), ux.UNet2DConditionModel.from_pretrained(folder).state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_of_a_unet_its_config_and_weights_are_fetched(hub, tiny_folder):
    assert same(ux.UNet2DConditionModel.from_pretrained(ID), tiny_folder / "unet")
    assert hub.asked == UNET


def test_a_cache_that_holds_the_unet_alone_serves_the_unet(hub, repositories):
    first = ux.UNet2DConditionModel.from_pretrained(ID)
    hub.shutdown()
    hub.server_close()
    again = ux.UNet2DConditionModel.from_pretrained(ID, local_files_only=True)
    assert torch.equal(first.conv_in.weight, again.conv_in.weight)
    assert ux.UNet2DConditionModel.from_pretrained(ID).config == first.config
    with pytest.raises(FileNotFoundError, match=r"not whole in the cache .*model_index\.json"):
        ux.load(ID, device="cpu", local_files_only=True)


def test_for_shapes_the_config_is_fetched(hub):
    table = ux.shape_table(ID, batch=1)
    assert hub.asked == UNET[:1]
    assert table.title == ID
    assert table.inputs[0].shape == (1, 4, 8, 8)
    assert ux.umap(ID).title == ID
    assert hub.asked == UNET[:1]
    find_config("people/shards", Search())
    assert hub.asked == [UNET[0], "config.json"]


def test_of_a_pipeline_the_parts_that_run_are_fetched(hub, tiny_folder):
    pipe = ux.load(ID, device="cpu")
    assert same(pipe.unet, tiny_folder / "unet")
    needless = {"tiny.ckpt", "README.md", "unet/diffusion_pytorch_model.bin", "vae/extra.json"}
    there = {f.relative_to(tiny_folder).as_posix() for f in tiny_folder.rglob("*") if f.is_file()}
    assert set(hub.asked) == there - needless
    assert len(hub.asked) == len(set(hub.asked))
    assert pipe("a red circle", steps=1).image.size == (64, 64)


def test_of_sdxl_both_text_encoders_are_fetched(hub):
    folder = hub.root / "people/sdxl"
    if not folder.exists():
        pipelines.build("xl")[0].save_pretrained(folder)
    run = ux.load("people/sdxl", device="cpu")(pipelines.RED, steps=1)
    assert run.image.size == (64, 64)
    there = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert set(hub.asked) == there
    assert {name.split("/")[0] for name in there} >= {"tokenizer_2", "text_encoder_2"}


def test_of_a_unet_that_is_told_more_the_configs_are_fetched(hub):
    shutil.copytree(hub.root / ID, hub.root / "people/inpaint")
    config = hub.root / "people/inpaint/unet/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 9}))
    with pytest.raises(ValueError, match=r"people/inpaint: .*takes 9 channels") as info:
        ux.load("people/inpaint", device="cpu")
    assert "from_pretrained('people/inpaint')" in str(info.value)
    assert set(hub.asked) == {"model_index.json", "unet/config.json", "vae/config.json"}


def test_of_a_pipeline_of_another_kind_its_index_is_fetched(hub):
    for _ in range(2):  # from the hub, and from the cache
        with pytest.raises(ValueError, match=r"people/xl: .*two text encoders"):
            ux.load("people/xl", device="cpu")
    assert hub.asked == ["model_index.json"]


def test_of_a_unet_that_is_not_covered_its_config_is_fetched(hub, repositories):
    for name in ("unet", "whole"):
        shutil.copytree(repositories / ID, repositories / "people" / name)
        config = repositories / "people" / name / "unet/config.json"
        options = json.loads(config.read_text()) | {"dual_cross_attention": True}
        config.write_text(json.dumps(options))
    with pytest.raises(ValueError, match=r"people/unet: .*dual_cross_attention=True"):
        ux.UNet2DConditionModel.from_pretrained("people/unet")
    assert hub.asked == UNET[:1]
    with pytest.raises(ValueError, match=r"people/whole: .*dual_cross_attention=True"):
        ux.load("people/whole", device="cpu")
    assert hub.asked == [UNET[0], "model_index.json", UNET[0]]


def test_fp16_variants_are_found_unasked_and_in_shards(hub, tiny_folder):
    unet = ux.UNet2DConditionModel.from_pretrained("people/shards")
    original = ux.UNet2DConditionModel.from_pretrained(tiny_folder / "unet")
    assert torch.equal(unet.conv_in.weight, original.conv_in.weight.half().float())
    index = "diffusion_pytorch_model.safetensors.index.fp16.json"
    assert hub.asked[:2] == [index, "config.json"]
    assert len(hub.asked) > 3
    assert all(".fp16-0" in name for name in hub.asked[2:])


def test_half_precision_takes_the_fp16_variant_where_there_is_a_choice(hub, repositories, tmp_path):
    folder = repositories / "people/both"
    shutil.copytree(repositories / ID / "unet", folder / "unet", dirs_exist_ok=True)
    half = "unet/diffusion_pytorch_model.fp16.safetensors"
    shutil.copy(folder / UNET[1], folder / half)
    unet = ux.UNet2DConditionModel.from_pretrained("people/both", torch_dtype=torch.bfloat16)
    assert unet.dtype == torch.bfloat16
    assert hub.asked == [UNET[0], half]
    find_unet("people/both", Search(cache_dir=tmp_path / "other"))
    find_unet("people/both", Search(cache_dir=tmp_path / "third", variant="fp16"))
    assert hub.asked == [UNET[0], half, *UNET, UNET[0], half]


def test_the_options_of_diffusers_are_taken(hub, repositories, tmp_path):
    load = ux.UNet2DConditionModel.from_pretrained
    hub.revisions.add("v1.0")
    options = dict(subfolder="unet", revision="v1.0", token="hf_mine", cache_dir=tmp_path / "own")
    unet = load(ID, use_safetensors=True, dtype="bfloat16", **options)
    assert unet.dtype == torch.bfloat16
    assert hub.tokens == {"hf_mine"}
    assert hub.asked == UNET
    assert load(ID, local_files_only=True, **options).config == unet.config
    assert load(repositories / ID, subfolder="unet").config == unet.config
    for wrong, said in (
        (dict(variant="ema"), r"variant='ema'; it has diffusion_pytorch_model\.bin"),
        (dict(revision="v2"), "no revision 'v2'"),
        (dict(subfolder="transformer"), "its top folder has no"),
        (dict(local_files_only=True, revision="main"), "local_files_only is set"),
    ):
        with pytest.raises(FileNotFoundError, match=said):
            load(ID, **wrong)


def test_what_is_no_option_is_answered_by_name(tiny_pipe, tiny_folder):
    with pytest.raises(TypeError, match=r"num_inference_steps= .* write steps="):
        tiny_pipe("a red circle", num_inference_steps=3)
    with pytest.raises(TypeError, match=r"guidance_scale= .* write guidance="):
        tiny_pipe.denoise("a red circle", guidance_scale=3.0)
    with pytest.raises(TypeError, match=r"eta= is no option"):
        tiny_pipe.denoise("a red circle", eta=1.0)
    with pytest.raises(TypeError, match=r"device_map: .* variant"):
        ux.UNet2DConditionModel.from_pretrained(tiny_folder, device_map="auto")
    with pytest.raises(TypeError, match="same option"):
        ux.load(tiny_folder, dtype="float32", torch_dtype=torch.float32)


GATED = {"X-Error-Code": "GatedRepo"}


@pytest.mark.parametrize(
    ("name", "listing", "files", "said"),
    [
        ("people/none-1.0", None, None, "no repository of that name, or it is private"),
        (ID, (401, {}), None, "wants a token and got none"),
        (ID, (403, {}), None, "may not read it"),
        (ID, None, (403, GATED), rf"licence must be accepted first, at http://.*/{ID}"),
        (ID, None, (401, GATED), rf"licence must be accepted first, at http://.*/{ID}"),
        (ID, None, (404, {"X-Error-Code": "EntryNotFound"}), "failed to give unet/config.json"),
        (ID, (503, {}), None, "failed to give the list of its files .*try again"),
        (ID, (200, {}), None, "failed to give the list of its files .*JSONDecodeError"),
        ("people/empty", None, None, "has no diffusion_pytorch_model"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_missing(hub, name, listing, files, said):
    hub.refusals = {name: listing} if listing else {}
    hub.refused_files = {name: files} if files else {}
    start = time.perf_counter()
    with pytest.raises(FileNotFoundError, match=said) as caught:
        ux.UNet2DConditionModel.from_pretrained(name)
    assert time.perf_counter() - start < 2
    assert f"{name!r} is no folder or file in " in str(caught.value)
    assert "not in the cache" in str(caught.value)
    assert hub.url in str(caught.value)


def test_a_slow_hub_is_waited_for_with_a_sign_of_life(hub, monkeypatch, capsys):
    monkeypatch.setattr("unet_explained.run.network.SIGN_SECONDS", 0.3)
    monkeypatch.setattr("unet_explained.run.network.PROBE_SECONDS", 0.3)
    hub.pause = 0.5
    assert ux.shape_table(ID, depth=1).title == ID
    assert f"waiting for the hub: {ID}, the list of its files" in capsys.readouterr().err


def test_a_hub_that_dies_in_the_middle_of_a_file(hub, monkeypatch, tiny_folder):
    hub.dies_at = 2000
    # The library tries six times, a second apart.
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    with pytest.raises(FileNotFoundError, match=rf"failed to give {UNET[1]} .*try again"):
        ux.UNet2DConditionModel.from_pretrained(ID)
    hub.dies_at = None
    assert same(ux.UNet2DConditionModel.from_pretrained(ID), tiny_folder / "unet")


@pytest.mark.parametrize("word", ["shapes", "heatmap"])
def test_the_command_line_says_so_within_two_seconds(tmp_path, word):
    arguments = ["shapes", ID] if word == "shapes" else ["heatmap", "a cat", "--model", ID]
    with socket.socket() as deaf:  # takes no connection, and does not refuse one either
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        with socket.create_connection(deaf.getsockname()):
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            done, seconds = command(
                url, tmp_path, "-X", "importtime", "-m", "unet_explained", *arguments
            )
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert "No connection" in said
    assert "Traceback" not in done.stderr
    assert not any(
        heavy in done.stderr for heavy in ("torch", "diffusers.utils", "matplotlib.figure")
    )
    assert seconds < 2


def test_the_environment_names_the_hub_and_its_proxy(repositories, tmp_path):
    with serving(repositories) as hub:
        proxy = {"http_proxy": hub.url, "no_proxy": ""}
        code = CONFIG.format(ID)
        done, _ = command("http://hub.invalid", tmp_path, "-c", code, **proxy)
        assert done.stdout.strip().endswith("unet"), done.stderr
        done, _ = command(hub.url, tmp_path / "empty", "-c", code, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in done.stderr


def test_only_a_path_or_a_file_of_weights_is_local(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people").mkdir()
    shutil.copytree(hub.root / ID, tmp_path / ID)
    (tmp_path / ID / "unet/config.json").write_text('{"in_channels": 9}')
    assert ux.shape_table(ID).inputs[0].shape[1] == 9
    for name in ("people/missing.safetensors", "people/missing.ckpt", "./people/none", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="no such folder or file"):
            ux.load(name, device="cpu")
    assert not hub.asked

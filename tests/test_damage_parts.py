"""Damaged files beside the UNet's: settings, schedulers, pickled parts; and how soon it is said."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from test_damage import FILES, WEIGHTS, Runs

import unet_explained as ux
from unet_explained.__main__ import main
from unet_explained.run.files import Search, unet_files
from unet_explained.run.weights import look_over

SETTINGS = {
    "null": "expected a JSON object",
    "[]": "expected a JSON object",
    '{"guidance": "x"}': "guidance is 'x', expected a number",
    '{"guidance": NaN}': "guidance is nan, expected a number",
    '{"guidance": true}': "guidance is True, expected a number",
    '{"guidance": -1}': "guidance is -1, expected a number",
    '{"palette": 7}': "palette is 7, expected lists of words by things",
    '{"palette": {"things": ["a", 7]}}': "expected lists of words",
    '{"palette": {"beasts": ["a"]}}': "expected lists of words",
    '{"latent_rgb": "red"}': "latent_rgb is 'red', expected rows",
    '{"latent_rgb": [[1, 2]]}': "expected rows",
    '{"guidence": 3}': "'guidence' is none of its names; those are guidance",
}


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "pipeline")


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_of_a_folder_that_do_not_fit_are_named(text, folder, capsys):
    (folder / "unet_explained.json").write_text(text)
    assert main(["heatmap", "a", "--model", str(folder)]) == 2
    shown = capsys.readouterr().err
    assert f"{folder}/unet_explained.json" in shown
    assert SETTINGS[text] in shown
    assert len(shown.splitlines()) == 1


def test_settings_that_fit_are_heeded(folder):
    (folder / "unet_explained.json").write_text(
        '{"guidance": 2, "palette": {"things": ["circle"]}}'
    )
    pipe = ux.load(folder, device="cpu")
    assert pipe.guidance == 2
    with pytest.warns(UserWarning, match="'red': this model was never shown this word"):
        pipe("a red circle", steps=1)


@pytest.mark.parametrize("name", [None, 7, "../os", "os.system"])
def test_a_scheduler_without_a_name_is_told_before_anything_is_read(name, folder):
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": name}))
    with pytest.raises(ValueError, match=r"scheduler_config\.json: expected the name"):
        look_over(folder, Search())


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("vae", WEIGHTS, "diffusion_pytorch_model.bin"),
        ("text_encoder", "model.safetensors", "pytorch_model.bin"),
    ],
)
def test_a_part_that_is_a_pickle_is_named_and_not_executed(part, old, new, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / part / old).unlink()
    torch.save({"a": Runs()}, folder / part / new)
    with pytest.raises(ValueError, match=r"get the checkpoint's \.safetensors file") as refusal:
        ux.load(folder, device="cpu")
    assert str(refusal.value).startswith(str(folder / part / new))
    assert "weights_only" not in str(refusal.value)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("places", [None, [], {}, {"a": 7}, {"a": "../x"}, {"a": "/dev/zero"}])
def test_an_index_of_the_hub_that_leads_astray_is_refused(places):
    names = ["config.json", f"{WEIGHTS}.index.json", "x"]
    read = {"config.json": {}, f"{WEIGHTS}.index.json": {"weight_map": places}}
    with pytest.raises(ValueError, match=r"index\.json: (expected a weight_map|.* leads outside)"):
        unet_files(names, read.get, Search())


SAID = """
import sys
from unet_explained.__main__ import main
for folder in sys.argv[1:]:
    assert main(["heatmap", "a", "--model", folder]) == 2
    assert "torch" not in sys.modules, folder
"""


def test_damaged_files_are_told_before_torch_is_imported(tiny_folder, tmp_path):
    """What then takes long is starting Python."""
    changes = {f"unet/{WEIGHTS} {kind}": content for kind, (content, _) in FILES.items()}
    changes |= {
        "unet/config.json": b"<<<<<<< HEAD",
        "SHA256SUMS": b"x",
        "unet_explained.json": b"1",
    }
    folders = []
    for number, (file, content) in enumerate(changes.items()):
        folders.append(str(shutil.copytree(tiny_folder, tmp_path / str(number))))
        (tmp_path / str(number) / file.split()[0]).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", SAID, *folders], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("    ")]  # no code
    assert len(said) == len(folders)

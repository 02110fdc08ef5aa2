"""Files written: whole and as they were named, or not at all, and said with the path.

Each case is a writer and a fault, made for real; afterwards the place is as it was before.
"""

import os
import shutil
import stat
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import faults
import pytest
import torch
from PIL import Image

import unet_explained as ux
from unet_explained.__main__ import main
from unet_explained.recording import record
from unet_explained.show import heatmaps
from unet_explained.show.export import export_heatmaps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="faults are made in a fork"),
]
LONG = "n" * 300


@pytest.fixture(scope="module")
def made(tiny_folder):
    """A run and all that can be written of it, made once."""
    pipe = ux.load(tiny_folder, device="cpu")
    with record(pipe.unet, "down_blocks*") as rec:
        run = pipe("a red circle", steps=1)
    ux.plot_heatmaps(run, rec)._repr_png_()  # fonts are found before a child lacks rights
    return SimpleNamespace(
        rec=rec, run=run, image=run.image, unet=pipe.unet, view=ux.umap("bundled"),
        model=["--model", str(tiny_folder), "--device", "cpu", "--steps", "1"],
    )  # fmt: skip


@pytest.fixture
def place():
    """An empty folder that every user of the machine may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def seen(folder: Path) -> dict[str, bytes | None]:
    """All that stands in a folder, hidden files too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


FILES = {
    "heatmap": lambda made, path: main(
        ["heatmap", "a red circle", *made.model, "--out", str(path)]
    ),
    "csv": lambda made, path: main(["shapes", "sd15", "--csv", str(path)]),
    "page": lambda made, path: made.view.to_html(path),
    "picture": lambda made, path: ux.plot_heatmaps(made.run, made.rec).savefig(path),
}
FOLDERS = {
    "tour": lambda made, path: main(["tour", *made.model, "--out", str(path)]),
    "record": lambda made, path: made.rec.save(path),
    "maps": lambda made, path: export_heatmaps(made.image.resize((512, 512)), made.rec, path),
    "weights": lambda made, path: made.unet.save_pretrained(path),
}
WRITERS = FILES | FOLDERS


def a_file_in_the_way(place: Path, name: str) -> Path:
    """Where a folder should be."""
    (place / "way").write_text("good")
    return place / "way" / name


def protected(place: Path, name: str) -> Path:
    (place / name).write_text("good")
    (place / name).chmod(0o444)
    place.chmod(0o777)
    return place / name


def forbidden(place: Path, name: str) -> Path:
    place.chmod(0o555)
    return place / name


def good_folder(place: Path, name: str) -> Path:
    (place / name).mkdir()
    for file in ("picture.png", "recording.json", "config.json"):
        (place / name / file).write_text("good")
    return place / name


def good_file(place: Path, name: str) -> Path:
    (place / name).write_text("good")
    return place / name


# Where it is to be written, and what happens there.
FAULTS = {
    "disk full": (lambda place, name: place / name, faults.disk_full),
    "disk full, new folders": (lambda place, name: place / "a" / "b" / name, faults.disk_full),
    "disk full, a good file": (good_file, faults.disk_full),
    "disk full, a good folder": (good_folder, faults.disk_full),
    "not yours": (forbidden, faults.powerless),
    "write-protected": (protected, faults.powerless),
    "a folder is a file": (a_file_in_the_way, None),
    "a file is a folder": (good_folder, None),
    "the folder is a file": (good_file, None),
    "name too long": (lambda place, name: place / (LONG + name), None),
    "no such place": (lambda place, name: Path("/proc") / name, None),
    "interrupted": (good_file, faults.interrupted),
    "interrupted, a good folder": (good_folder, faults.interrupted),
}
OF_FILES = (
    "disk full, new folders", "disk full, a good file", "not yours", "write-protected",
    "a folder is a file", "a file is a folder", "name too long", "no such place", "interrupted",
)  # fmt: skip
OF_FOLDERS = (
    "disk full", "disk full, new folders", "disk full, a good folder", "not yours",
    "a folder is a file", "the folder is a file", "name too long", "no such place",
    "interrupted, a good folder",
)  # fmt: skip
CASES = [(writer, fault) for writer in FILES for fault in OF_FILES]
CASES += [(writer, fault) for writer in FOLDERS for fault in OF_FOLDERS]
RUNS = "heatmap", "tour"  # which take seconds where nothing is in their way


def whole(writers) -> list:
    """Writers that come to their end, those that run the model marked as slow."""
    slow = pytest.mark.slow
    return [pytest.param(writer, marks=slow if writer in RUNS else ()) for writer in writers]


def marked(cases) -> list:
    slow = [(writer, fault) for writer, fault in cases if writer in RUNS and "interrupt" in fault]
    return [pytest.param(*case, marks=pytest.mark.slow if case in slow else ()) for case in cases]


NAMES = {"heatmap": "h.png", "picture": "p.png", "csv": "t.csv", "page": "u.html"}


@pytest.mark.parametrize(("writer", "fault"), marked(CASES), ids=lambda value: value)
def test_what_cannot_be_written_is_said_and_nothing_is_touched(writer, fault, made, place):
    if fault == "no such place" and not Path("/proc/self").exists():
        pytest.skip("no folder that refuses even root")
    where, happens = FAULTS[fault]
    path = where(place, NAMES.get(writer, "out"))
    before = seen(place)
    ended = faults.in_child(lambda: WRITERS[writer](made, path), *filter(None, [happens]))
    assert seen(place) == before
    if writer in ("heatmap", "tour", "csv"):
        assert "Traceback" not in ended.err
        assert ended.error == ""
        assert ended.result == (130 if "interrupted" in fault else 2)
        said = ended.err
        # A run takes minutes on a large model: only a rename is too late to be foreseen.
        assert "interrupted" in fault or "loading" not in ended.out
    elif "interrupted" in fault and writer != "maps":
        assert ended.error == "KeyboardInterrupt"
        return
    else:
        assert issubclass(getattr(__builtins__, ended.error, OSError), OSError)
        assert ended.error.endswith("Error")
        said = ended.said
    assert "interrupted" in fault or str(path) in said
    assert "[Errno" not in said


def test_an_older_record_is_back_if_the_new_one_does_not_take_its_place(made, place):
    path = good_folder(place, "out")
    before = seen(place)
    between = partial(faults.interrupted, 1)  # the older one is away, the new one not yet there
    assert faults.in_child(lambda: made.rec.save(path), between).error == "KeyboardInterrupt"
    assert seen(place) == before


@pytest.mark.parametrize("writer", ["page", "record", "maps", "weights"])
def test_it_is_found_before_the_work(writer, made, place, monkeypatch):
    def work(*args, **options):
        pytest.fail("worked for nothing")

    monkeypatch.setattr(type(made.view), "baked", work)
    monkeypatch.setattr("unet_explained.recording.packing.Packing.recording", work)
    monkeypatch.setattr("unet_explained.show.export.word_maps", work)
    monkeypatch.setattr("unet_explained.run.convert.to_diffusers", work)
    path = forbidden(place, "out")
    ended = faults.in_child(lambda: WRITERS[writer](made, path), faults.powerless)
    assert ended.error == "PermissionError"


@pytest.mark.parametrize(
    ("name", "kind"), [("maps", "PNG"), ("maps.JPG", "JPEG"), ("a.b/maps", "PNG")]
)
def test_the_picture_is_where_and_what_it_says(name, kind, made, place, capsys):
    assert FILES["heatmap"](made, place / name) == 0
    assert f"wrote {place / name}\n" in capsys.readouterr().out
    assert Image.open(place / name).format == kind


@pytest.mark.parametrize("name", ["maps.xyz", "maps.pgf", "maps.txt"])
def test_a_suffix_that_cannot_be_written_is_said_before_the_run(name, made, place, capsys):
    assert FILES["heatmap"](made, place / name) == 2
    shown = capsys.readouterr()
    assert "loading" not in shown.out
    assert name in shown.err
    assert "png" in shown.err
    assert not seen(place)


@pytest.mark.parametrize("writer", whole(WRITERS))
def test_folders_on_the_way_are_made(writer, made, place):
    path = place / "new" / "folders" / NAMES.get(writer, "out")
    assert not WRITERS[writer](made, path) or path.exists()
    assert path.is_dir() == (writer in FOLDERS)
    assert path.exists()


@pytest.mark.parametrize("writer", whole(WRITERS))
def test_a_name_as_long_as_names_may_be(writer, made, place):
    name = NAMES.get(writer, "out")
    path = place / ("n" * (255 - len(name)) + name)
    WRITERS[writer](made, path)
    assert list(place.iterdir()) == [path]


@pytest.mark.parametrize("writer", whole(FILES))
def test_a_link_stays_a_link_and_rights_stay(writer, made, place):
    name = NAMES[writer]
    (place / "there").mkdir()
    (place / "there" / name).write_text("old")
    (place / "there" / name).chmod(0o640)
    (place / name).symlink_to(place / "there" / name)
    FILES[writer](made, place / name)
    assert (place / name).is_symlink()
    assert (place / "there" / name).stat().st_size > 20_000
    assert stat.S_IMODE((place / "there" / name).stat().st_mode) == 0o640


@pytest.mark.parametrize("writer", whole(FILES))
def test_a_pipe_is_written_into(writer, made, place):
    path, read = place / NAMES[writer], []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
    reader.start()
    assert faults.in_child(lambda: FILES[writer](made, path) and None).error == ""
    reader.join(10)
    assert len(read[0]) > 20_000
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_is_named(capsys):
    assert main(["shapes", "sd15", "--csv", "/dev/full"]) == 2
    shown = capsys.readouterr().err
    assert "/dev/full" in shown
    assert "No space left" in shown
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_new_files_are_readable_as_others_are(made, place):
    (place / "other").write_text("")
    usual = stat.S_IMODE((place / "other").stat().st_mode)
    for writer, write in WRITERS.items():
        write(made, place / writer / NAMES.get(writer, "out"))
    for path in place.rglob("*.*"):
        assert stat.S_IMODE(path.stat().st_mode) == usual, path


def test_a_tour_keeps_what_else_is_in_its_folder(made, place):
    (place / "picture.png").write_text("old")
    (place / "mine.txt").write_text("mine")
    assert FOLDERS["tour"](made, place) == 0
    assert (place / "mine.txt").read_text() == "mine"
    assert Image.open(place / "picture.png").format == "PNG"
    assert len(seen(place)) == 5


def test_a_tour_into_the_folder_one_is_in(made, place, monkeypatch):
    monkeypatch.chdir(place)
    assert FOLDERS["tour"](made, ".") == 0
    assert len(seen(place)) == 4


def test_a_folder_where_a_file_of_the_tour_belongs(made, place, capsys):
    (place / "heatmaps.png").mkdir()
    before = seen(place)
    assert FOLDERS["tour"](made, place) == 2
    shown = capsys.readouterr()
    assert "loading" not in shown.out
    assert "heatmaps.png" in shown.err
    assert seen(place) == before


def test_weights_take_the_place_of_older_shards(made, place):
    made.unet.save_pretrained(place / "unet", max_shard_size="200KB")
    assert len(seen(place / "unet")) > 4
    (place / "unet" / "notes.txt").write_text("mine")
    made.unet.save_pretrained(place / "unet")
    files = ["config.json", "diffusion_pytorch_model.safetensors", "notes.txt"]
    assert sorted(seen(place / "unet")) == files
    again = ux.UNet2DConditionModel.from_pretrained(place / "unet", device="cpu")
    assert torch.equal(again.conv_in.weight, made.unet.conv_in.weight)


@pytest.mark.parametrize("fault", [faults.disk_full, faults.interrupted])
def test_notebooks_are_copied_whole_or_not_at_all(fault, place, monkeypatch):
    site = place / "site"
    (site / "notebooks").mkdir(parents=True)
    for name in ("00_start_here.ipynb", "01_time.ipynb"):
        (site / "notebooks" / name).write_bytes(bytes(50_000))
    monkeypatch.setattr("unet_explained.commands.lab.PACKAGE", site)
    monkeypatch.setattr("subprocess.call", lambda command: 0)
    monkeypatch.chdir(place)
    before = seen(place)
    ended = faults.in_child(lambda: main(["lab"]), fault)
    assert ended.result in (2, 130)
    assert seen(place) == before


def test_a_picture_of_many_kinds_is_written_as_matplotlib_names_it(made, place):
    picture = heatmaps.heatmap_grid(None, ["a"], [made.rec.attention("red").numpy()])
    for name, written in (("a", "a.png"), ("b.svg", "b.svg"), ("c.pdf", "c.pdf")):
        picture.savefig(place / name)
        assert (place / written).stat().st_size > 1000
    with pytest.raises(ValueError, match=r"x\.xyz.*png"):
        picture.savefig(place / "x.xyz")
    assert len(seen(place)) == 3

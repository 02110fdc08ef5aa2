"""Size and memory: what cannot fit is refused by its size; out of memory in the middle is mended.

Nothing here takes the memory that it asks for: sizes are refused before, or in a child that may
have only a little more.
"""

import re
import resource
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import faults
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from recording_helpers import of_a_run

import unet_explained as ux
from unet_explained.__main__ import main
from unet_explained.model import UNetConfig
from unet_explained.recording import record
from unet_explained.recording.budget import BudgetError
from unet_explained.recording.memory import least_bytes, room

pytestmark = pytest.mark.slow

linux = pytest.mark.skipif(sys.platform != "linux", reason="the child's memory is limited as there")
MUCH, LITTLE = 8_000_000, 30 * 2**20
FORWARDS = 10**8  # of a run that says how many it has


def make(folder: str) -> SimpleNamespace:
    pipe = ux.load(folder, device="cpu")
    # Of many steps DDIM itself says that they are too many.
    euler = replace(pipe, scheduler=EulerDiscreteScheduler.from_config(pipe.scheduler.config))
    image = pipe("a red frog", steps=1).image
    return SimpleNamespace(pipe=pipe, euler=euler, folder=folder, image=image)


@pytest.fixture(scope="module")
def made(tiny_folder):
    return make(str(tiny_folder))


def endless(height: int, width: int) -> torch.Tensor:
    """Latents that say that they are large, and take four numbers."""
    return torch.zeros(1, 4, 1, 1).expand(1, 4, height, width)


def fully_kept(made, **options):
    """A record of a run of many forwards, of which the first shows that it cannot be kept."""
    given = torch.zeros(2, 4, 8, 8), 7, torch.zeros(2, 77, 24)
    with record(made.pipe.unet, "*", budget="900 PB", **options), of_a_run(FORWARDS):
        made.pipe.unet(*given)


REFUSED = {
    "8,000,000 pixels a side": lambda made: made.pipe("a", height=MUCH, width=MUCH),
    "8,000,000 pixels high": lambda made: made.pipe("a", height=MUCH * 64),
    "more numbers than a tensor has": lambda made: made.pipe("a", height=MUCH * 10**6),
    "a height that is no machine's number": lambda made: made.pipe("a", height=8 * 10**30),
    "latents of that size": lambda made: made.pipe("a", latents=endless(10**6, 10**6)),
    "a run taken step by step": lambda made: made.pipe.denoise("a", height=MUCH, width=MUCH),
    "a live view": lambda made: ux.live(made.pipe, "a", height=MUCH, width=MUCH),
    "10**9 steps": lambda made: made.euler("a", steps=10**9),
    "10**30 steps": lambda made: made.euler("a", steps=10**30),
    "a batch of timesteps": lambda made: ux.maps_of(made.pipe, made.image, "a", t=[500] * 10**6),
    "a table's height": lambda made: ux.shape_table("sd15", height=10**12, width=10**12),
    "a table's batch": lambda made: ux.shape_table("sdxl", batch=10**18),
    "a table's tokens": lambda made: ux.shape_table("sd15", tokens=10**20),
    "a map's width": lambda made: ux.umap("sd15", width=10**30),
    "a record of all": lambda made: fully_kept(made),
    "a record of self-attention": lambda made: fully_kept(made, self_attention=True),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_fit_is_refused_before_any_work(case, made):
    refused = BudgetError if "record" in case else ValueError
    with pytest.raises(refused) as raised:
        REFUSED[case](made)
    said = str(raised.value)
    assert "overflow" not in said.lower()
    if "table" in case or "map's" in case:
        assert "smaller" in said
        return
    assert "budget=" not in said
    assert re.search(r"[\d.]+ [GTPE]B|any machine", said)
    assert "smaller" in said or "fewer" in said
    assert re.search("the cpu has|the memory there is|any machine", said)


def test_the_command_line_says_it_in_a_line(made, capsys, tmp_path):
    options = ["--model", made.folder, "--device", "cpu", "--out", str(tmp_path / "a.png")]
    assert main(["heatmap", "a frog", *options, "--steps", str(10**9)]) == 2
    assert main(["shapes", "sd15", "--height", str(10**12), "--width", str(10**12)]) == 2
    said = capsys.readouterr().err
    assert "the cpu has" in said
    assert "smaller" in said
    assert "Traceback" not in said


def test_tables_are_of_any_machine():
    assert ux.shape_table("sd15", height=10**6, width=10**6, depth=1).total_flops > 10**20
    assert "10000" in str(ux.shape_table("sd15", batch=10_000, depth=1))


@pytest.mark.parametrize(("factor", "refused"), [(4, True), (0.25, False)])
def test_the_bound_is_what_the_machine_has(factor, refused, made):
    """Only where it is the device's; a quarter of it is begun and, here, not waited for."""
    sizes = dict(batch=2, width=64, tokens=77)
    config, one = made.pipe.unet.config, 2**14
    height = int(
        one * factor * room("cpu") / least_bytes(config, torch.float32, height=one, **sizes)
    )
    ask = lambda: made.pipe.denoise("a", latents=endless(height, 64))  # noqa: E731
    if refused:
        with pytest.raises(ValueError, match="the cpu has"):
            ask()
    else:
        assert next(iter([ask()])) is not None


def test_half_precision_needs_half():
    config, sizes = UNetConfig.load("sd15"), dict(batch=2, height=64, width=64, tokens=77)
    whole = least_bytes(config, torch.float32, **sizes)
    assert 2 * least_bytes(config, torch.bfloat16, **sizes) == whole
    assert least_bytes(config, torch.float32, **(sizes | dict(batch=20))) == 10 * whole


def peak_of_a_forward(folder: str) -> int:
    """In a new process, the bytes that a forward takes; in a fork, whose peak is its own."""
    unet = make(folder).pipe.unet

    def measured() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with torch.no_grad():
            unet(torch.zeros(2, 4, 64, 64), 7, torch.zeros(2, 77, 24))
        return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

    return faults.in_child(measured).result


@linux
def test_no_more_is_claimed_than_a_forward_takes(made):
    taken = faults.fresh(peak_of_a_forward, made.folder)
    sizes = dict(batch=2, height=64, width=64, tokens=77)
    claimed = least_bytes(made.pipe.unet.config, torch.float32, **sizes)
    assert claimed <= taken + 2**20
    assert claimed > taken / 20


def hooks_on(model: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def recovered(made) -> bool:
    """In a child that ran out of memory and is given it back: no hook is on, and a run works."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return hooks_on(made.pipe.unet) == 0 and made.pipe("a frog", steps=1).image is not None


def a_run(made):
    made.pipe("a frog", steps=2, height=6144, width=6144)


def a_recorded_run(made):
    with record(made.pipe.unet):
        a_run(made)


def their_forward(made):
    with record(made.pipe.unet), torch.no_grad():
        made.pipe.unet(torch.zeros(2, 4, 768, 768), 7, torch.zeros(2, 77, 24))


def a_picture(made):
    made.pipe.decode(endless(2048, 2048))


def maps_of_a_picture(made):
    ux.maps_of(made.pipe, np.zeros((2048, 2048, 3), np.uint8), "a frog")


def loading(made):
    ux.load(made.folder, device="cpu")


MIDDLE = {  # with what error it ends, and the bytes that there are
    "a run": (a_run, "MemoryError", LITTLE),
    "a recorded run": (a_recorded_run, "MemoryError", LITTLE),
    "their own forward, recorded": (their_forward, "RuntimeError", LITTLE),
    "decoding": (a_picture, "MemoryError", LITTLE),
    "maps of a picture": (maps_of_a_picture, "MemoryError", LITTLE),
    "loading": (loading, "MemoryError", LITTLE // 100),
}


def told(made: SimpleNamespace, case: str) -> tuple[str, str, str, bool]:
    """With what it ends: the error, its words, its cause, and whether all is well afterwards."""
    try:
        MIDDLE[case][0](made)
    except BaseException as error:
        again = recovered(made)
        said = "\n".join([str(error), *getattr(error, "__notes__", [])])
        return type(error).__name__, said, repr(error.__cause__), again
    return "none", "", "", True


def every_middle(folder: str) -> dict[str, tuple]:
    """In a new process, each case in a fork of it."""
    made = make(folder)
    return {
        case: faults.in_child(partial(told, made, case), faults.little_memory(memory)).result
        for case, (_, _, memory) in MIDDLE.items()
    }


@pytest.fixture(scope="module")
def middles(tiny_folder):
    return faults.fresh(every_middle, str(tiny_folder))


@linux
@pytest.mark.parametrize("case", MIDDLE)
def test_out_of_memory_in_the_middle(case, middles):
    name, said, cause, again = middles[case]
    assert name == MIDDLE[case][1]
    assert any(advice in said for advice in ("smaller picture", "tiling", "half precision"))
    assert again
    assert "allocate memory" in (cause if name == "MemoryError" else said)


def heatmap_without_memory(folder: str, path: str) -> tuple[object, str]:
    """In a new process, what the command ends with and prints."""
    make(folder)
    ux.plot_heatmaps  # noqa: B018  # matplotlib's libraries are mapped before there is no room
    arguments = ["heatmap", "a frog", "--model", folder, "--device", "cpu", "--out", path]
    ended = faults.in_child(lambda: main(arguments), faults.little_memory(LITTLE // 100))
    return ended.result, ended.err


@linux
def test_out_of_memory_on_the_command_line(tiny_folder, tmp_path):
    path = Path(tmp_path, "a.png")
    result, said = faults.fresh(heatmap_without_memory, str(tiny_folder), str(path))
    assert result == 2
    assert "Traceback" not in said
    assert "out of memory" in said
    assert "bfloat16" in said
    assert not path.exists()

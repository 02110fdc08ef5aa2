"""Python's own share of a forward: SD 1.5's topology, so narrow that little else is left."""

import copy
from contextlib import ExitStack

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import unet_explained as ux

from .timing import interleaved, table

NARROW = {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "cross_attention_dim": 8}
HEADS = {"attention_head_dim": 2}
KINDS = {
    "nothing kept": {"attention": None},
    "the default": {},
    "the sum over steps": {"attention": "sum"},
    "every head": {"attention": "heads"},
    "statistics": {"attention": None, "stats": True},
}


class Operations(TorchDispatchMode):
    """Counts the operations that reach a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += 1
        return operation(*args, **(kwargs or {}))


@torch.no_grad()
def share(rounds: int) -> str:
    """A table of times and of operations; each contender is a model of its own, on one thread."""
    import diffusers

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = ux.UNetConfig.load("sd15").to_dict() | NARROW | HEADS
    theirs = diffusers.UNet2DConditionModel.from_config(config).eval()
    ours = ux.UNet2DConditionModel.from_config(config)
    alone, begun = copy.deepcopy(ours), copy.deepcopy(ours)  # where weights lie in memory tells
    inputs = torch.randn(2, 4, 8, 8), torch.tensor(500), torch.randn(2, 77, 8)

    def first():
        with ux.record(begun):
            return begun(*inputs)

    with ExitStack() as stack:
        works = {"ours": lambda: alone(*inputs), "diffusers": lambda: theirs(*inputs)}
        for name, options in KINDS.items():
            recorded = copy.deepcopy(ours)
            stack.enter_context(ux.record(recorded, **options))
            works[f"ours, recorded: {name}"] = lambda model=recorded: model(*inputs)
        watched = copy.deepcopy(theirs)
        stack.enter_context(ux.record(watched))
        works["diffusers, recorded: the default"] = lambda: watched(*inputs)
        works["the first forward of a record"] = first
        times = interleaved(works, rounds)
        counts = {}
        for name, work in works.items():
            with Operations() as operations:
                work()
            counts[name] = operations.count
    torch.set_num_threads(threads)
    base = times["ours"].median
    rows = [(n, time, f"{time.median / base:.2f}", counts[n]) for n, time in times.items()]
    title = "Python's share of a forward: SD 1.5's topology, 8 channels, 8 x 8 latents, one thread"
    return table(title, rows, ("", "median (least to most)", "of ours", "operations"))

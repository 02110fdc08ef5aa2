"""record(): hooks that observe a UNet and never change what it computes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..model import Attention, attention_weights
from ..model.attention import Transformer2DModel
from .axes import trace
from .budget import Budget
from .heatmaps import head_mean
from .hooks import hooked
from .kept import Announcement, Options, Pair, RecordedRun, RecordedStep, Stats
from .nested import changed, copied, first, size_of
from .patterns import matching, uncompiled
from .recording import Recording

# The recorders that now watch a model, so that a pipeline need not know them.
WATCHING: WeakKeyDictionary[nn.Module, list["Recorder"]] = WeakKeyDictionary()

CHOICES = {"attention": ("mean", "heads", "sum", None), "halves": ("conditional", "both")}


def record(
    model: nn.Module,
    *patterns: str,
    attention: str | None = "mean",
    self_attention: bool = False,
    halves: str = "conditional",
    stats: bool = False,
    budget: str | int = "2GB",
    device: str | torch.device = "cpu",
) -> Recording:
    """Watch a UNet: `with record(unet, "mid_block*") as rec: ...`. It computes the same as ever.

    patterns: globs over module names in which * crosses dots; their outputs are kept.
    attention: of every cross-attention the mean of its heads ("mean", float16), every head
    ("heads", float16), the sum over steps of the means ("sum", float32), or nothing (None).
    self_attention: queries and keys are kept too. halves: of an announced run, the conditional half
    of the batch or both; of any other run, the whole batch. stats: of every module's output.
    budget: bytes that may be kept in all; device: where they are kept.
    Raises ValueError for a pattern that fits no module, TypeError for what is no UNet, and, from
    within the first forward that shows it, BudgetError for more than the budget.
    """
    unet = uncompiled(model)
    for option, value in (("attention", attention), ("halves", halves)):
        if value not in CHOICES[option]:
            raise ValueError(f"{option}={value!r}: expected one of {CHOICES[option]}")
    names = [name for name, _ in unet.named_modules()]
    kept = {name for pattern in patterns for name in matching(pattern, names, "module")}
    options = Options(patterns, attention, self_attention, halves, stats, device)
    recorder = Recorder(unet, options, kept, Budget(budget, _advice(options)))
    return Recording(options, names, recorder.attached)


def announce(model: nn.Module, announcement: Announcement) -> None:
    """Tell every recorder that now watches the model what its next forwards are."""
    for recorder in WATCHING.get(uncompiled(model), ()):
        recorder.announced = announcement


def _advice(options: Options) -> dict[str, str]:
    """What to drop if a kind of record is the largest."""
    lighter = {"heads": '"mean"', "mean": '"sum"', "sum": "None", None: "None"}[options.attention]
    half = ' or halves="conditional"' if options.halves == "both" else ""
    return {
        "attention": f"Pass attention={lighter}{half}",
        "self-attention": f"Drop self_attention=True{half}",
        "values": f"Choose fewer modules than {', '.join(options.patterns)}",
    }


class Recorder:
    """The hooks of one record(): a RecordedStep gathers what passes, and is filed at the end."""

    def __init__(self, unet: nn.Module, options: Options, kept: set[str], budget: Budget):
        self.unet, self.options, self.kept, self.budget = unet, options, kept, budget
        self.announced: Announcement | None = None  # and not yet begun
        self.run: RecordedRun | None = None
        self.step: RecordedStep | None = None  # None outside a forward of the whole model
        self.size = (0, 0)  # height and width in the transformer that now runs
        self.is_cross = False  # the attention that now runs

    @contextmanager
    def attached(self, recording: Recording) -> Iterator[None]:
        with ExitStack() as stack:
            self.tracing = stack.enter_context(ExitStack())
            self.recording = recording
            recording.calls = self.tracing.enter_context(trace(self.unet))
            stack.enter_context(hooked(self._hooks()))
            others = WATCHING.setdefault(self.unet, [])
            others.append(self)
            stack.callback(others.remove, self)
            yield

    def _hooks(self) -> Iterator[RemovableHandle]:
        options = self.options
        yield self.unet.register_forward_pre_hook(self.begin, with_kwargs=True)
        for name, module in self.unet.named_modules():
            if isinstance(module, Transformer2DModel):
                yield module.register_forward_pre_hook(self.enter_transformer, with_kwargs=True)
            if isinstance(module, Attention) and (options.attention or options.self_attention):
                yield module.register_forward_pre_hook(self.enter_attention, with_kwargs=True)
                hook = partial(self.attended, name)
                yield module.attend.register_forward_hook(hook, with_kwargs=True)
            if name in self.kept:
                yield module.register_forward_hook(partial(self.keep_value, name))
            if options.stats:
                yield module.register_forward_hook(partial(self.keep_stats, name))
        yield self.unet.register_forward_hook(self.end)

    def begin(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """A forward starts: the next of its run, or the first of another."""
        announced = self.run and self.run.announcement
        over = announced and len(self.run.steps) == announced.forwards
        if self.run is None or over or self.announced:
            self.run, self.announced = RecordedRun(self.options, self.announced), None
        self.step = RecordedStep(torch.as_tensor(_timestep(*args, **kwargs)).detach().clone())
        self.budget.begin()

    def enter_transformer(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        picture = args[0] if args else kwargs["hidden_states"]
        self.size = tuple(picture.shape[-2:])

    def enter_attention(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        context = args[1] if len(args) > 1 else kwargs.get("encoder_hidden_states")
        self.is_cross = context is not None

    def attended(self, name: str, module: nn.Module, args: tuple, kwargs: dict, output) -> None:
        if self.step is None:
            return
        rows, announced = slice(None), self.run.announcement
        if announced and self.options.halves == "conditional":
            rows = announced.conditional
        pair = Pair(*(None if one is None else one[rows] for one in _read(*args, **kwargs)))
        if self.is_cross and self.options.attention:
            self.keep_attention(name, pair)
        elif not self.is_cross and self.options.self_attention:
            self.run.self_layers[name] = self.size
            if self.budget.fits("self-attention", size_of(pair) * self.forwards):
                self.step.pairs[name] = copied(pair)

    @torch.no_grad()
    def keep_attention(self, name: str, pair: Pair) -> None:
        self.run.layers[name] = self.size
        batch, heads, queries, _ = pair.q.shape
        size, mode = batch * queries * pair.k.shape[2], self.options.attention
        if mode == "sum":
            size *= 4 * (not self.run.steps)  # float32, once a run
        else:
            size *= 2 * self.forwards * (heads if mode == "heads" else 1)
        if not self.budget.fits("attention", size):
            return
        # Under autocast the product would not be in float32.
        with torch.autocast(pair.q.device.type, enabled=False):
            weights = (attention_weights if mode == "heads" else head_mean)(*pair)
        self.step.attention[name] = weights if mode == "sum" else weights.half()

    def keep_value(self, name: str, module: nn.Module, args: tuple, output) -> None:
        if self.step is None:
            return
        if self.budget.fits("values", size_of(output) * self.forwards):
            self.step.values[_unused(name, self.step.values)] = copied(output)

    @torch.no_grad()
    def keep_stats(self, name: str, module: nn.Module, args: tuple, output) -> None:
        if self.step is None:
            return
        x = first(output).float()
        std, mean = torch.std_mean(x, correction=0)
        nonfinite = (~x.isfinite()).float().mean()
        row = torch.stack([mean, std, x.min(), x.max(), nonfinite])
        self.step.stats[_unused(name, self.step.stats)] = row

    @property
    def forwards(self) -> int:
        """How many forwards this one counts for: the first of an announced run for all of them."""
        announced = self.run.announcement
        return 1 if announced is None else 0 if self.run.steps else announced.forwards

    def end(self, module: nn.Module, args: tuple, output) -> None:
        """A forward ended: what was gathered goes to its device and into the recording at once.

        So an interrupted forward leaves nothing behind, and the device is waited for only here.
        """
        step, self.step = self.step, None
        self.budget.end()
        for kept in (step.attention, step.pairs, step.values):
            for name in kept:
                kept[name] = changed(kept[name], lambda tensor: tensor.to(self.options.device))
        if step.stats:
            rows = torch.stack(list(step.stats.values())).tolist()
            step.stats = {name: Stats(*row) for name, row in zip(step.stats, rows)}
        if self.options.attention == "sum":
            for name, weights in step.attention.items():
                self.run.totals[name] = self.run.totals.get(name, 0) + weights
            step.attention = {}
        self.run.steps.append(step)
        if len(self.run.steps) == 1:
            self.recording.runs.append(self.run)
        self.tracing.close()  # one forward shows the shapes of all


def _timestep(sample=None, timestep=0, *args, **kwargs):
    """The timestep among the arguments of the UNet, which itself complains if there is none."""
    return timestep


def _read(q, k, v, mask=None) -> tuple:
    """What attention weights are made of, among the arguments of Attend."""
    return q, k, mask


def _unused(name: str, kept: dict) -> str:
    """The name, or for a further call of the same module in one forward, name#2, name#3 ..."""
    key, count = name, 1
    while key in kept:
        key, count = f"{name}#{count + 1}", count + 1
    return key

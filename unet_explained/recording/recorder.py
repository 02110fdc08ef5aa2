"""The hooks of one record(): they observe a UNet and never change what it computes."""

from collections.abc import Sequence
from functools import partial
from numbers import Real
from threading import Lock
from weakref import ref

import torch
from torch import Tensor, nn

from ..model import Attention
from .attention_hooks import AttentionHooks
from .axes import Trace
from .budget import Budget
from .given import Given
from .hearing import is_foreign
from .hooks import Hooks, called_modules
from .identity import ASIDE, ROLES, Origin, Reader, Row, current, depth_of
from .kept import RecordedStep, Total
from .nested import copied, first, moved, size_of
from .nonfinite import extent
from .patterns import arguments_of
from .processors import Processors, autocast_of, processors_of
from .recorded_run import RecordedRun
from .recording import Recording
from .under_way import OfThread, UnderWay, unused


class Recorder:
    """A forward under way belongs to a recorder and a thread."""

    def __init__(
        self, recording: Recording, budget: Budget, trace: ref[Trace], reader: Reader | None
    ) -> None:
        self.recording, self.options = recording, recording.options
        self.budget, self.trace, self.reader = budget, trace, reader
        self.only: Origin | None = None
        self.thread = OfThread()
        self.promised: list[RecordedRun] = []  # of which forwards are foreseen that may never come
        self.filing = Lock()
        self.hooks: ref[Hooks] | None = None
        self.arguments: list[str] = []  # of the model's forward, by their order
        self.modules: list[nn.Module] = []  # those that hooks were put on
        self.attentions: list[nn.Module] = []
        self.inside: list[nn.Module | None] = []  # parts of these: LoRA and the like change them
        self.foreign: list[nn.Module] = []  # those of them that are not ours
        self.processors: Processors = ()
        self.named: tuple[str, ...] = ()  # all modules, as Given has them
        self.attention_hooks = AttentionHooks(recording, self.thread)

    def place(self, unet: nn.Module, hooks: Hooks) -> None:
        self.hooks, self.arguments = ref(hooks), arguments_of(unet)
        hooks.before(unet, self.begin)
        self.place_inside(unet, hooks)
        if "" in self.recording.kept:
            hooks.after(unet, partial(self.keep_value, ""))
        if self.options.stats:
            hooks.after(unet, partial(self.look, ""))
        hooks.after(unet, self.end)

    def place_inside(self, unet: nn.Module, hooks: Hooks) -> None:
        """On all that stands in it now."""
        self.modules = list(unet.modules())
        self.attentions = [m for m in self.modules if isinstance(m, Attention) or is_foreign(m)]
        self.foreign = [m for m in self.attentions if is_foreign(m)]
        self.inside = _parts(self.attentions)
        self.named = tuple(name for name, _ in unet.named_modules())
        for name, module in called_modules(unet):
            if module is unet:
                continue
            self.attention_hooks.place(name, module, hooks)
            if name in self.recording.kept:
                hooks.after(module, partial(self.keep_value, name))
            if self.options.stats:
                hooks.after(module, partial(self.look, name))

    def renew(self, unet: nn.Module, thoroughly: bool) -> None:
        """Modules come and go (LoRA, fusing): looked for in attentions, where they mostly do, and
        everywhere as another text comes, because that takes a thirtieth of a small forward."""
        with self.filing:  # of two threads that find them changed, one does it
            changed = _parts(self.attentions) != self.inside
            changed = changed or (thoroughly and list(unet.modules()) != self.modules)
            if changed and self.hooks and (hooks := self.hooks()):
                self.recording.see_names([name for name, _ in unet.named_modules()])
                hooks.renew(unet, partial(self.place_inside, unet))

    def begin(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """A forward starts, in the place of those of this thread that never ended."""
        depth, forwards = depth_of(module), self.thread.forwards
        nested = forwards.enter(depth)
        forwards.begin(self.begun(module, args, kwargs, depth, nested))

    def begun(
        self, module: nn.Module, args: tuple, kwargs: dict, depth: int, nested: bool
    ) -> UnderWay | None:
        """A forward that starts; None if it is none to be recorded. nested: it is inside another,
        so whatever its texts are, it is no forward of the loop that makes that one."""
        given = dict(zip(self.arguments, args)) | kwargs
        sample, timestep = given.get("sample"), given.get("timestep")
        if not (isinstance(sample, Tensor) and sample.ndim and isinstance(timestep, Tensor | Real)):
            return None  # the model itself complains
        context = given.get("encoder_hidden_states")
        identity = current(module, depth)
        if identity is None and self.reader and not nested:
            identity = self.reader.identity(sample, context)
        origin, rows = None, (Row(),) * len(sample)
        if identity and len(identity.rows) == len(sample):
            origin, rows = identity.origin, identity.rows
        if origin is ASIDE or (self.only and origin is not self.only):
            return None
        kept = [
            i for i, row in enumerate(rows)
            if self.options.halves == "both" or row.role is None or row.role.startswith(ROLES[0])
        ]  # fmt: skip
        self.renew(module, thoroughly=context is not self.thread.context)
        self.thread.context = context
        self.processors = processors_of(self.foreign, self.processors)
        arguments = Given.of(given, self.processors)._replace(
            modules=self.named, autocast=autocast_of(sample.device.type)
        )
        run = self.recording.run_of(origin or (self.thread.key, tuple(sample.shape)), origin)
        step = RecordedStep(torch.as_tensor(timestep).detach().clone(), rows, tuple(kept))
        self.give_back()
        return UnderWay(run, step, arguments, self.budget.foresee())

    def give_back(self) -> None:
        """What was foreseen of runs that were given up."""
        with self.filing:
            for run in [run for run in self.promised if run.origin and run.origin.ended]:
                missing = (run.origin.forwards or 0) - len(run.steps)  # type: ignore[union-attr]
                self.budget.give_back(run.each, max(missing, 0))
                self.promised.remove(run)

    def keep_value(self, name: str, module: nn.Module, args: tuple, output) -> None:
        now = self.thread.now
        if now and now.foreseen.fits("values", size_of(output), now.forwards):
            now.step.values[unused(name, now.step.values)] = copied(output)

    def look(self, name: str, module: nn.Module, args: tuple, output) -> None:
        if (now := self.thread.now) and (x := first(output)) is not None and x.numel():
            now.look(name, x)

    def end(self, module: nn.Module, args: tuple, output) -> None:
        """A forward ended: what was gathered goes to its device and into the recording at once.

        So an interrupted forward leaves nothing behind, and the device is waited for only here.
        """
        now = self.thread.forwards.leave(module)
        if now is None:
            return
        step, run = now.step, now.run
        now.derive(self.options.attention)
        self.budget.settle(now.foreseen)
        now.look_closer()
        moving = step.timestep, step.attention, step.pairs, step.values, now.looks
        step.timestep, step.attention, step.pairs, step.values, looks = moved(
            moving, torch.device(self.options.device)
        )
        step.stats, step.extent = now.statistics(looks), extent(output)
        with self.filing:
            if self.options.attention == "sum":
                tokens = {weights.shape[-1] for weights in step.attention.values()}
                total = run.totals.setdefault((step.rows, *sorted(tokens)), Total(step.rows))
                total.add(step.attention)
                step.attention = {}
            if not run.steps and now.forwards > 1:
                run.each = now.foreseen.each
                self.promised.append(run)
            self.recording.file(run, step, now.given, self.budget.left)
            if (trace := self.trace()) and not self.recording.calls:
                self.recording.calls = tuple(trace.calls)
                trace.close()  # one forward shows the shapes of all


def _parts(modules: Sequence[nn.Module]) -> list[nn.Module | None]:
    return [part for module in modules for part in module._modules.values()]

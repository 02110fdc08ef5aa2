"""record(): hooks that observe a UNet and never change what it computes."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from threading import Lock, local
from weakref import ref

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..model import attention_weights
from ..model.attention import BasicTransformerBlock, Transformer2DModel
from .axes import Trace
from .budget import Budget, Foreseen
from .heatmaps import head_mean
from .hooks import Hooks, called_modules
from .identity import ROLES, Identity, Origin, Row, current, identified
from .kept import Given, Options, Pair, RecordedRun, RecordedStep, Size, Stats, Total
from .nested import copied, first, moved, size_of
from .patterns import matching, uncompiled
from .recording import Recording

CHOICES = {"attention": ("mean", "heads", "sum", None), "halves": ("conditional", "both")}
HELD = 256 * 2**20  # bytes that may wait for the forward's end, to be worked on together
SMALL = 2**20  # bytes of an output that is worth copying beside others, to be looked at with them


def record(
    model: nn.Module,
    *patterns: str,
    attention: str | None = "mean",
    self_attention: bool = False,
    halves: str = "conditional",
    stats: bool = False,
    budget: str | int = "2GB",
    device: str | torch.device = "cpu",
) -> "Watch":
    """Watch a UNet: `with record(unet, "mid_block*") as rec: ...`. It computes the same as ever.

    patterns: globs over module names in which * crosses dots; their outputs are kept.
    attention: of every cross-attention the mean of its heads ("mean", float16), every head
    ("heads", float16), the sum over steps of the means ("sum", float32), or nothing (None).
    self_attention: queries and keys are kept too. halves: of a run that says which rows are its
    prompt's, those or both; of any other, the whole batch. stats: of every module's output.
    budget: bytes that may be kept in all; device: where they are kept. What each forward was given
    is kept in what room is left, for Recording.replay.
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
    return Watch(unet, Recording(options, names, ref(unet)), kept, Budget(budget, _advice(options)))


def _advice(options: Options) -> dict[str, str]:
    """What to drop if a kind of record is the largest."""
    lighter = {"heads": '"mean"', "mean": '"sum"', "sum": "None", None: "None"}[options.attention]
    half = ' or halves="conditional"' if options.halves == "both" else ""
    return {
        "attention": f"Pass attention={lighter}{half}",
        "self-attention": f"Drop self_attention=True{half}",
        "values": f"Choose fewer modules than {', '.join(options.patterns)}",
    }


class Watch:
    """What record() returns: a context manager, to be entered once, that gives the Recording.

    It alone holds the hooks: so they end with the `with` also where its end is interrupted.
    """

    def __init__(self, unet: nn.Module, recording: Recording, kept: set[str], budget: Budget):
        self._recording, self._trace = recording, Trace(unet)
        self._recorder = Recorder(recording, budget, ref(self._trace))
        self._hooks = Hooks(partial(self._recorder.place, unet, kept))
        self._used = False

    def of(self, origin: Origin) -> "Watch":
        """To see this run alone, whatever else runs on the model."""
        self._recorder.only = origin
        return self

    def __getattr__(self, name: str):
        raise AttributeError(
            f"record() has no {name!r}: the Recording is what `with record(...) as rec` gives"
        )

    def __enter__(self) -> Recording:
        if self._used:
            raise RuntimeError("a recorder is used once: call record() again")
        self._used = True
        self._trace.__enter__()
        self._hooks.__enter__()
        return self._recording

    def __exit__(self, *error) -> None:
        self._hooks.close()
        self._trace.close()


class UnderWay:
    """A forward that has begun: it is its recorder's and its thread's, and filed when it ends."""

    def __init__(
        self, run: RecordedRun, step: RecordedStep, given: Given, foreseen: Foreseen
    ) -> None:
        self.run, self.step, self.given, self.foreseen = run, step, given, foreseen
        self.size: Size = (0, 0)  # height and width in the transformer that now runs
        self.held: list[tuple[str, Pair]] = []  # cross-attentions whose weights are not derived yet
        self.bytes = 0  # of these
        self.outputs: list[tuple[str, Tensor]] = []  # of which statistics are not taken yet
        self.output_bytes = 0
        self.calls: dict[str, None] = {}  # of modules with statistics, in order
        self.looks: list[tuple[list[str], Tensor]] = []  # statistics of outputs, by their names

    @property
    def forwards(self) -> int:
        """How many forwards this one counts for: the first of a run of known length for all."""
        origin = self.run.origin
        if origin is None or origin.forwards is None:
            return 1
        if self.run.steps:
            return int(len(self.run.steps) >= origin.forwards)  # more than it said count too
        return origin.forwards


class Recorder:
    """The hooks of one record(). A forward under way belongs to a recorder and a thread."""

    def __init__(self, recording: Recording, budget: Budget, trace: ref[Trace]) -> None:
        self.recording, self.options = recording, recording.options
        self.budget, self.trace = budget, trace
        self.only: Origin | None = None
        self.thread = local()  # .now is the forward that this thread is in
        self.filing = Lock()

    def place(self, unet: nn.Module, kept: set[str], hooks: Hooks) -> None:
        options = self.options
        hooks.before(unet, self.begin)
        looks_at = {True: options.attention, False: options.self_attention}  # by: at the prompt
        for name, module in called_modules(unet):
            if isinstance(module, Transformer2DModel) and any(looks_at.values()):
                hooks.before(module, self.enter_transformer)
            if isinstance(module, BasicTransformerBlock):
                for part, cross in (("attn1", module.only_cross_attention), ("attn2", True)):
                    if looks_at[cross]:
                        act = partial(self.hold if cross else self.keep_pair, f"{name}.{part}")
                        hooks.before(module.get_submodule(f"{part}.attend"), act)
            if name in kept:
                hooks.after(module, partial(self.keep_value, name))
            if options.stats:
                hooks.after(module, partial(self.look, name))
        hooks.after(unet, self.end)

    @property
    def now(self) -> UnderWay | None:
        """The forward that this thread is in; None outside of one of the whole model."""
        return getattr(self.thread, "now", None)

    def begin(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """A forward starts, in the place of one of this thread that never ended."""
        arguments = Given.of(args, kwargs)
        sample, timestep = arguments.named("sample", 0), arguments.named("timestep", 1)
        if not isinstance(sample, Tensor) or sample.ndim == 0 or timestep is None:
            return  # the model itself complains
        identity = current()
        if identity is None or len(identity.rows) != len(sample):
            identity = None
        if self.only and (identity is None or identity.origin is not self.only):
            self.thread.now = None
            return
        batch = identity.rows if identity else (Row(),) * len(sample)
        kept = [
            i for i, row in enumerate(batch)
            if self.options.halves == "both" or row.role in (None, ROLES[0])
        ]  # fmt: skip
        run = self.recording.run_of(
            identity.origin if identity else (self._this_thread(), tuple(sample.shape)),
            identity.origin if identity else None,
        )
        step = RecordedStep(torch.as_tensor(timestep).detach().clone(), batch, tuple(kept))
        self.thread.now = UnderWay(run, step, arguments, self.budget.foresee())

    def _this_thread(self) -> object:
        """A key of its own; what the system calls a thread is given to the next one too."""
        return self.thread.__dict__.setdefault("key", object())

    def enter_transformer(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if now := self.now:
            picture = args[0] if args else kwargs["hidden_states"]
            now.size = tuple(picture.shape[-2:])

    def keep_pair(self, name: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Queries and keys of a self-attention, of which weights are derived when they are read."""
        if (now := self.now) and now.step.kept:
            pair, rows = _pair(*args, **kwargs), now.step.rows_slice
            mask = None if pair.mask is None else pair.mask[rows]
            pair = Pair(pair.q[rows], pair.k[rows], mask)
            now.run.self_layers[name] = now.size
            if now.foreseen.fits("self-attention", size_of(pair) * now.forwards):
                now.step.pairs[name] = copied(pair)

    def hold(self, name: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Those of a cross-attention wait: at the forward's end equal layers are one product."""
        now = self.now
        if now is None or not now.step.kept:
            return
        pair = _pair(*args, **kwargs)
        now.run.layers[name] = now.size
        _, heads, queries, _ = pair.q.shape
        entries, mode = len(now.step.kept) * queries * pair.k.shape[2], self.options.attention
        if mode == "sum":
            known = (now.step.rows, pair.k.shape[2]) in now.run.totals
            entries *= 4 * (not known)  # float32, once for all such forwards
        else:
            entries *= 2 * now.forwards * (heads if mode == "heads" else 1)
        if now.foreseen.fits("attention", entries):
            now.held.append((name, pair))
            now.bytes += pair.q.nbytes + pair.k.nbytes
            if now.bytes > HELD:
                self.derive(now)

    @torch.no_grad()
    def derive(self, now: UnderWay) -> None:
        """The weights of all that is held, one product for each group of layers of one shape."""
        if not now.held:
            return
        groups: dict[tuple, list[tuple[str, Pair]]] = defaultdict(list)
        for name, pair in now.held:
            groups[pair.q.shape, pair.k.shape, pair.mask is None].append((name, pair))
        # Under autocast the product would not be in float32.
        with torch.autocast(now.held[0][1].q.device.type, enabled=False):
            for layers in groups.values():
                names, pairs = zip(*layers)
                weights = self.weights_of(pairs, now.step.rows_slice)
                now.step.attention.update(zip(names, weights.chunk(len(names))))
        now.held, now.bytes = [], 0

    def weights_of(self, pairs: Sequence[Pair], rows: slice | list[int]) -> Tensor:
        """Of these rows of attentions of one shape, one after the other, as they are kept."""
        q, k = (torch.cat([part[rows] for part in parts]) for parts in list(zip(*pairs))[:2])
        masks = [pair.mask[rows] for pair in pairs if pair.mask is not None]
        mask, mode = torch.cat(masks) if masks else None, self.options.attention
        weights = (attention_weights if mode == "heads" else head_mean)(q, k, mask)
        return weights if mode == "sum" else weights.half()

    def keep_value(self, name: str, module: nn.Module, args: tuple, output) -> None:
        now = self.now
        if now and now.foreseen.fits("values", size_of(output) * now.forwards):
            now.step.values[_unused(name, now.step.values)] = copied(output)

    def look(self, name: str, module: nn.Module, args: tuple, output) -> None:
        """Statistics wait too: nothing here is done in place, so an output stays what it is."""
        if (now := self.now) and (x := first(output)).numel():
            key = name if name not in now.calls else _unused(name, now.calls)
            now.calls[key] = None
            now.outputs.append((key, x))
            now.output_bytes += x.nbytes
            if now.output_bytes > HELD:
                self.look_closer(now)

    @torch.no_grad()
    def look_closer(self, now: UnderWay) -> None:
        """The statistics of all outputs that wait; small ones of one shape are taken together."""
        groups: dict[object, list[tuple[str, Tensor]]] = defaultdict(list)
        for number, (name, x) in enumerate(now.outputs):
            groups[(x.shape, x.dtype) if x.nbytes < SMALL else number].append((name, x))
        for group in groups.values():
            names, outputs = zip(*group)
            now.looks.append((list(names), _statistics(torch.stack(outputs))))
        now.outputs, now.output_bytes = [], 0

    def end(self, module: nn.Module, args: tuple, output) -> None:
        """A forward ended: what was gathered goes to its device and into the recording at once.

        So an interrupted forward leaves nothing behind, and the device is waited for only here.
        """
        now, self.thread.now = self.now, None
        if now is None:
            return
        step, run = now.step, now.run
        self.derive(now)
        self.budget.settle(now.foreseen)
        self.look_closer(now)
        moving = step.timestep, step.attention, step.pairs, step.values, now.looks
        step.timestep, step.attention, step.pairs, step.values, looks = moved(
            moving, torch.device(self.options.device)
        )
        found = {key: row for keys, rows in looks for key, row in zip(keys, rows.tolist())}
        for key in now.calls:
            std, mean, low, high, bad = found[key]
            step.stats[key] = Stats(mean, std, low, high, bad)
        with self.filing:
            if self.options.attention == "sum":
                tokens = {weights.shape[-1] for weights in step.attention.values()}
                total = run.totals.setdefault((step.rows, *tokens), Total(step.rows))
                total.add(step.attention)
                step.attention = {}
            self.recording.file(run, step, now.given, self.budget.left)
            if (trace := self.trace()) and not self.recording.calls:
                self.recording.calls = trace.calls
                trace.close()  # one forward shows the shapes of all


def replayed(
    unet: nn.Module, given: Given, rows: tuple[Row, ...], *patterns: str, **options
) -> Recording:
    """One forward again, of these arguments, under a recorder; options as for record()."""
    identity = Identity(Origin(forwards=1), rows)
    watch = record(unet, *patterns, **options).of(identity.origin)
    with watch as recording, identified(identity), torch.no_grad():
        unet(*given.args, **given.kwargs)
    identity.origin.finished = True
    return recording


def _pair(q, k, v, mask=None) -> Pair:
    """What attention weights are made of, among the arguments of Attend."""
    return Pair(q, k, mask)


def _statistics(outputs: Float[Tensor, "output *any"]) -> Float[Tensor, "output 5"]:
    """Deviation, mean, least, largest, and the share that is NaN or infinite, of each output."""
    x = outputs.reshape(len(outputs), -1).float()
    low, high = x.aminmax(dim=1)
    bad = (x - x).count_nonzero(dim=1) / x.shape[1]  # 0 for every number but these
    return torch.stack([*torch.std_mean(x, dim=1, correction=0), low, high, bad], dim=1)


def _unused(name: str, kept: dict) -> str:
    """The name, or for a further call of the same module in one forward, name#2, name#3 ..."""
    key, count = name, 1
    while key in kept:
        key, count = f"{name}#{count + 1}", count + 1
    return key

"""The hooks of a recorder on attentions: their queries and keys, kept until the forward's end."""

from functools import partial

from torch import nn

from ..model.attention import BasicTransformerBlock
from ..words import brief
from .attending import Attending
from .hearing import hear, is_foreign
from .hooks import Hooks
from .kept import image_key
from .memory import ran_out
from .nested import copied, size_of
from .pairs import Pair, Size
from .recording import Recording
from .under_way import HELD, OfThread, UnderWay


class AttentionHooks:
    """What they see is kept with the forward that its thread is in."""

    def __init__(self, recording: Recording, thread: OfThread) -> None:
        self.recording, self.options, self.thread = recording, recording.options, thread
        self.proofs: dict[tuple, tuple] = {}  # of an attention and kind of call: its scale
        self.unproved: dict[tuple, object] = {}  # of those that gave nothing finite so far

    def place(self, name: str, module: nn.Module, hooks: Hooks) -> None:
        """Those that a module needs: an attention, or what has one in it."""
        looks_at = {True: self.options.attention, False: self.options.self_attention}
        if type(module).__name__ == "Transformer2DModel" and any(looks_at.values()):
            hooks.before(module, self.enter_transformer)
        if isinstance(module, BasicTransformerBlock):
            for part, cross in (("attn1", module.only_cross_attention), ("attn2", True)):
                if looks_at[cross]:
                    act = partial(self.see_pair, cross, f"{name}.{part}")
                    hooks.before(module.get_submodule(f"{part}.attend"), act)
        if is_foreign(module) and any(looks_at.values()):
            hear(hooks, module, self.wants, partial(self.see_call, name))

    def enter_transformer(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if now := self.thread.now:
            picture = args[0] if args else kwargs["hidden_states"]
            now.size = tuple(picture.shape[-2:])

    def see_pair(
        self, cross: bool, name: str, module: nn.Module, args: tuple, kwargs: dict
    ) -> None:
        """Those of ours are what Attend is given."""
        if (now := self.thread.now) and now.step.kept:
            self.keep_pair(now, now.as_called(name), _pair(*args, **kwargs), now.size, cross)

    def wants(self, context: bool) -> object:
        """Whether a call of an attention is looked at, one with or without a context."""
        options, now = self.options, self.thread.now
        return now and now.step.kept and (options.attention if context else options.self_attention)

    def see_call(self, name: str, call: Attending) -> None:
        """What is not known to be right is proved; a layer that fails is named, never drawn."""
        if not (now := self.thread.now) or name in self.recording.failed:
            return
        size, proof = call.size or now.size, (name, call.kind)
        scale, _ = self.proofs.get(proof, (None, None))
        if scale is None or not call.known:
            found = _found(call, len(now.step.batch), size)
            if isinstance(found, str):
                self.recording.failed[name] = f"{name} ({call.by}): {found}"
                return
            scale = self.believed(call, proof, found)
        name = now.as_called(name)
        self.keep_pair(now, name, call.pair(scale), size, call.context is not None)
        for number, pair in call.image_pairs(scale).items():
            now.run.image_layers.setdefault(number, {})[name] = size
            self.hold(now, image_key(name, number), pair)

    def believed(self, call: Attending, proof: tuple, found: float | None) -> float:
        """The scale that was found; or a likely one, until a later call proves it or fails."""
        # Processors are held, so that their ids stay their own.
        if found is None:
            self.unproved.setdefault(proof, call.processor)
            found = call.scales()[0]
        else:
            self.unproved.pop(proof, None)
            self.proofs[proof] = found, call.processor
        self.recording.unproved = tuple(dict.fromkeys(name for name, _ in self.unproved))
        return found

    def keep_pair(self, now: UnderWay, name: str, pair: Pair, size: Size, cross: bool) -> None:
        (now.run.layers if cross else now.run.self_layers)[name] = size
        if cross:
            self.hold(now, name, pair)
            return
        # Of a self-attention weights are derived when they are read.
        rows = now.step.rows_slice
        mask = None if pair.mask is None else pair.mask[rows]
        pair = Pair(pair.q[rows], pair.k[rows], mask)
        if now.foreseen.fits("self-attention", size_of(pair), now.forwards):
            now.step.pairs[name] = copied(pair)

    def hold(self, now: UnderWay, name: str, pair: Pair) -> None:
        """Those of a cross-attention wait: at the forward's end equal layers are one product."""
        _, heads, queries, _ = pair.q.shape
        keys, mode, forwards = pair.text or pair.k.shape[2], self.options.attention, now.forwards
        entries = len(now.step.kept) * queries * keys
        if mode == "sum":  # float32, once for all forwards that have the same rows
            rows = now.step.rows
            sums = (t.sums.get(name) for t in now.run.totals.values() if t.rows == rows)
            known = any(one is not None and one.shape[-1] == keys for one in sums)
            entries, forwards = 4 * entries * (not known), 1
        else:
            entries *= 2 * (heads if mode == "heads" else 1)
        if now.foreseen.fits("attention", entries, forwards):
            now.held.append((name, pair))
            now.bytes += pair.q.nbytes + pair.k.nbytes
            if now.bytes > HELD:
                now.derive(self.options.attention)


def _found(call: Attending, batch: int, size: Size) -> float | str | None:
    """As Attending.proved; a reason also for what nobody foresaw, which must not end a forward."""
    try:
        return call.misfit(batch, size) or call.proved()
    except (RuntimeError, ValueError, TypeError) as error:
        if ran_out(error):
            raise
        return f"its queries, keys and values do not fit together: {brief(str(error))}"


def _pair(q, k, v, mask=None) -> Pair:
    """What attention weights are made of, among the arguments of Attend."""
    return Pair(q, k, mask)

"""The forwards of one run, and where in them a picture's part stands."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..numbers import whole_number
from ..words import brief
from .identity import ROLES, Origin, Row, Text
from .kept import Options, RecordedStep, Stats, Total
from .pairs import Size
from .patterns import Steps, pick

NO_TEXT = (
    "no text encoder was seen to make this row's embeddings: say what they are of, "
    "rec.name(embeddings, text), or pass token=, a position"
)


@dataclass
class RecordedRun:
    """The forwards of one run, whatever ran beside it; or those that nobody said whose they are."""

    options: Options
    origin: Origin | None
    steps: tuple[RecordedStep, ...] = ()
    layers: dict[str, Size] = field(default_factory=dict)  # the cross-attentions
    self_layers: dict[str, Size] = field(default_factory=dict)
    image_layers: dict[int, dict[str, Size]] = field(default_factory=dict)  # by image prompt
    totals: dict[Any, Total] = field(default_factory=dict)  # over steps, if attention="sum"
    counts: dict[str, int] = field(default_factory=dict)  # of its first forward: Given.counts
    each: dict[str, int] = field(default_factory=dict)  # bytes by kind foreseen of a later forward
    told: bool = False  # a recorder said that it is not finite; Origin has it of all recorders

    @property
    def finished(self) -> bool | None:
        """Whether whoever ran it came to its end; None if nobody said whose forwards these are."""
        return None if self.origin is None else self.origin.finished

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts that its rows were given, each once."""
        rows = (row for step in self.steps for row in step.rows)
        return tuple(dict.fromkeys(row.text for row in rows if row.text is not None))

    @property
    def unknown(self) -> list[str]:
        """What could not be known of its rows, in sentences."""
        rows = dict.fromkeys(row for step in self.steps for row in step.batch)
        found = []
        if any(row.text is None and row.content for row in rows):
            found.append(
                "embeddings that came from no text encoder inside `with`: say what they are of, "
                "rec.name(embeddings, text)"
            )
        if any(row.text is None and row.content is None for row in rows):
            found.append("nobody said what its rows are given: token= is answered, a word is not")
        if any(row.text and row.role is None for row in rows):
            found.append("which of its rows is the prompt's: picture= is the batch's index")
        if any(row.role and row.picture is None for row in rows):
            found.append("which pictures some of its rows are of: picture= counts a half's rows")
        if any(row.text and row.text.second for row in rows):
            found.append(
                "its text encoders read different texts: at one place stand a word of each, and a "
                "map is of both"
            )
        return found

    def name(self, text: Text, contents: set[str]) -> int:
        """Rows of these contents have this text, whatever was said of them before; how many."""

        def named(rows: tuple[Row, ...]) -> tuple[Row, ...]:
            return tuple(r._replace(text=text) if r.content in contents else r for r in rows)

        for step in self.steps:
            step.batch = named(step.batch)
        for total in self.totals.values():
            total.rows = named(total.rows)
        return sum(row.content in contents for step in self.steps for row in step.batch)

    @property
    def timesteps(self) -> list[int | float | list]:
        """One a forward; a list in its place where the pictures of a batch had different ones."""
        batches = [step.timestep.flatten().tolist() for step in self.steps]
        return [times[0] if len(set(times)) == 1 else times for times in batches]

    @property
    def stats(self) -> dict[str, list[Stats | None]]:
        """stats[name][step], if recorded with stats=True; None where a module was not called."""
        names = dict.fromkeys(name for step in self.steps for name in step.stats)
        return {name: [step.stats.get(name) for step in self.steps] for name in names}

    def at(self, step: Steps) -> Sequence[RecordedStep]:
        """One step, several, or all for None."""
        if step is None:
            return self.steps
        several = step if isinstance(step, Sequence) else [step]
        if not several:
            raise ValueError(f"step: expected one or more, got {step!r}")
        return [pick(self.steps, one, "step") for one in several]

    def weights(
        self,
        layer: str,
        *,
        head: int | None = None,
        step: Steps = None,
        half: str = ROLES[0],
        picture: int | None = None,
        text: Text | None = None,
    ) -> Iterator[Float[Tensor, "*head query key"]]:
        """The kept weights of one picture at a step, at several or at all, one after the other.

        layer: the name they are kept under. text: of the forwards alone that were given it. Those
        in which the layer was not called are left out; ValueError if that is all of them.
        """
        if head is not None and self.options.attention != "heads":
            raise ValueError('only the mean of the heads was kept: pass attention="heads"')
        if self.options.attention == "sum":
            if step is not None:
                raise ValueError('attention="sum" keeps no single step: leave step= out')
            all_totals = [total for total in self.totals.values() if layer in total.sums]
            totals = self.having(all_totals, half, picture, text)
            sums = [total.sums[layer][row] for total, row in totals]
            if len({one.shape for one in sums}) > 1:
                raise ValueError("forwards of this run had texts of different lengths")
            yield torch.stack(sums).sum(dim=0) / sum(total.counts[layer] for total, _ in totals)
            return
        steps = [one for one in self.at(step) if layer in one.attention]
        if not steps:
            raise ValueError(f"{layer} was not called in {'any step' if step is None else 'it'}")
        for one, row in self.having(steps, half, picture, text):
            weights = one.attention[layer][row]
            yield weights if head is None else pick(weights, head, "head")

    def having(
        self, kept: Sequence[Any], half: str, picture: int | None, text: Text | None = None
    ) -> list[tuple[Any, int]]:
        """Steps or totals that have a picture of a half, with its row: a run may have other rows
        later, as when its guidance goes off. Raises what row() does if none has it.

        text: those that were given it; ValueError if none was.
        """
        picture = None if picture is None else whole_number("picture", picture)
        rows = [(one, self._row(one.rows, half, picture)) for one in kept]
        several = picture is None and any(len(self._places(o.rows, half)) > 1 for o in kept)
        found = [(one, row) for one, row in rows if row is not None]
        if several or not found:
            return [(one, self.row(one, half, picture)) for one in kept]
        if text is not None:
            found = [(one, row) for one, row in found if one.rows[row].text == text]
            if not found:
                raise ValueError(f"another text was given here than {brief(text.text)}")
        return found

    def row(self, step: RecordedStep | Total, half: str, picture: int | None) -> int:
        """Where in the kept batch a picture of a half stands; None: the only one."""
        found, rows = self._row(step.rows, half, picture), self._half(step.rows, half)
        if found is not None:
            return found
        if picture is None:
            raise ValueError(f"{len(rows)} pictures were kept: pass picture=0 to {len(rows) - 1}")
        raise IndexError(f"picture {picture} is not among the {len(rows)} that were recorded")

    def _row(self, rows: tuple[Row, ...], half: str, picture: int | None) -> int | None:
        """The same; None if it is not there, or not the only one."""
        places = self._places(rows, half)
        if picture is None:
            return places[0] if len(places) == 1 else None
        numbered = [place for place in places if rows[place].picture is not None]
        if numbered:
            return next((place for place in numbered if rows[place].picture == picture), None)
        return places[picture] if -len(places) <= picture < len(places) else None

    def text(self, half: str, picture: int | None) -> Text:
        """What a picture's row of a half was given first that is known; as given_texts()."""
        return next(iter(self.given_texts(half, picture)))

    def given_texts(self, half: str, picture: int | None, step: Steps = None) -> dict[Text, int]:
        """What a picture's row of a half was given, which a callback may change midway, and in how
        many forwards. ValueError where nobody said it."""
        rows = [row for step in self.steps for row in step.rows]
        if not any(row.text or row.content for row in rows):
            raise ValueError(
                "nobody said here what the prompt is, so no word is known: record the pipeline, "
                "not its UNet alone, or pass token=, a position"
            )
        given = (one.rows[row].text for one, row in self.having(self.at(step), half, picture))
        known = Counter(text for text in given if text is not None)
        if not known:
            raise ValueError(NO_TEXT)
        return known

    def _places(self, rows: tuple[Row, ...], half: str) -> list[int]:
        """The rows that a half is made of; where no role is known, all are the first half."""
        if not isinstance(half, str) or half.partition("#")[0] not in ROLES:
            raise ValueError(f"half={half!r}: expected 'conditional' or 'unconditional'")
        if half == ROLES[0] and not any(row.role for row in rows):
            return list(range(len(rows)))
        return [i for i, row in enumerate(rows) if row.role == half]

    def _half(self, rows: tuple[Row, ...], half: str) -> list[int]:
        """The same, of which there must be one. ValueError says why there is none."""
        found = self._places(rows, half)
        if not found and (self.origin is None or (rows and not any(row.role for row in rows))):
            raise ValueError("nobody said which half is which: picture= is the batch's index")
        if not found and self.options.halves != "both":
            raise ValueError('only the conditional half was kept: pass halves="both" to record()')
        if not found:
            raise ValueError(f"this run had no {half} half: its guidance was off")
        return found

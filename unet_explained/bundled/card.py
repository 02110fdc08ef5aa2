"""The model card: what was measured, as a table with confidence intervals, put in its place."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from math import inf, sqrt
from operator import itemgetter
from pathlib import Path
from statistics import mean, stdev

from .world import KINDS

AVERAGE = "all, averaged"  # the last line of the table
HEAT = ("area", "iou", "chance_iou")
START, END = "<!-- measured -->", "<!-- /measured -->"


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927)."""
    z, share = 1.96, successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = (
        z
        / (1 + z * z / trials)
        * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    )
    return max(0.0, middle - half), min(1.0, middle + half)


def write_card(folder: Path, rows: list[dict], steps: int, psnr: float) -> None:
    """Replaces the measured part of the folder's README.md."""
    card = folder / "README.md"
    text = card.read_text() if card.exists() else f"{START}\n{END}\n"
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    card.write_text(f"{before}{START}\n{measured(rows, steps, psnr)}\n{END}{after}")


def measured(rows: list[dict], steps: int, psnr: float) -> str:
    """The figures of graded rows, as Markdown."""
    looks = [(row["colour"], row["kind"]) for row in rows]
    lines = [
        f"{len(rows)} captions of held-out scenes, a picture each; {steps} steps; 95 % intervals,",
        "in which things of one picture are taken as independent.",
        "",
        "| the picture shows | share | interval | of |",
        "|---|---|---|---|",
        _share("every thing in its colour", (all(colour) for colour, _ in looks)),
        _share("every thing in its kind", (all(kind) for _, kind in looks)),
        _share("every thing in its colour and kind", (all(c + k) for c, k in looks)),
        _share("a thing is in its colour", (hit for colour, _ in looks for hit in colour)),
        _share("a thing is in its kind", (hit for _, kind in looks for hit in kind)),
        *(_share(f"a {kind} is in its kind", _in_kind(kind, rows)) for kind in KINDS),
        *_of_several("two", [look for look in looks if len(look[0]) == 2]),
        *_of_several("three", [look for look in looks if len(look[0]) == 3]),
        _share(
            "as many things as were asked for", (row["shown"] == len(row["things"]) for row in rows)
        ),
        _share(
            "a told relation holds (chance: a quarter at most)",
            (row["relation"] for row in rows if "relation" in row),
        ),
        _share("a thing is at its told place", (hit for row in rows for hit in row["place"])),
        _share(
            "the judge is right about a thing of a render",
            (hit for row in rows for hit in row["judge_render"]),
        ),
        _share(
            "the judge is right about a thing of a VAE round trip",
            (hit for row in rows for hit in row["judge_round_trip"]),
        ),
        "",
        f"VAE round trip at 512 x 512: {psnr:.1f} dB PSNR.",
        "",
        "| told another kind, the error around a thing grows by | standard error | at t | of |",
        "|---|---|---|---|",
        *(_worth(time, rows) for time in rows[0]["told"]),
        "",
        "| heatmap of | on | points at its thing | interval | chance | IoU | chance | maps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for role in ("noun", "colour"):
        for time in rows[0]["rendered"]:
            lines.append(
                _heat(
                    role,
                    f"renders noised to t = {time}",
                    [each for row in rows for each in row["rendered"][time]],
                )
            )
        lines.append(
            _heat(
                role,
                "sampled pictures, things that came out as told",
                [each for row in rows for each in row["sampled"]],
            )
        )
    return "\n".join([*lines, "", "```", by_layer(rows), "```"])


def by_layer(rows: list[dict]) -> str:
    """How often a word's map points at its thing, in percent, by layer and timestep of renders."""
    names = rows[0]["layers"]
    width = max(map(len, names))
    lines = []
    for role in ("noun", "colour"):
        shares = pointing_shares(rows, role)
        times = "".join(f"{time:>6}" for time in rows[0]["rendered"])
        lines += [f"{role + ', by layer and timestep':{width}}{times}"]
        lines += [
            f"{name:{width}}" + "".join(f"{100 * share:6.0f}" for share in line)
            for name, line in zip([*names, AVERAGE], shares, strict=True)
        ]
    return "\n".join(lines)


def pointing_shares(rows: list[dict], role: str) -> list[list[float]]:
    """The share of maps that point right: [layer, then the average][timestep]."""

    def share(time: str, hit: Callable[[dict], bool]) -> float:
        maps = [each for row in rows for each in row["rendered"][time] if each["role"] == role]
        return sum(map(hit, maps)) / len(maps)

    layers = range(len(rows[0]["layers"]))
    hits = [partial(lambda layer, each: each["layers"][layer], layer) for layer in layers]
    hits.append(itemgetter("points"))
    return [[share(time, hit) for time in rows[0]["rendered"]] for hit in hits]


def _share(what: str, hits: Iterable[bool]) -> str:
    hits = list(hits)
    return f"| {what} | {_percent(hits)} | {len(hits)} |"


def _percent(hits: list[bool]) -> str:
    """A share and its interval, as two columns."""
    if not hits:
        return "none | "
    low, high = wilson(sum(hits), len(hits))
    return f"{100 * sum(hits) / len(hits):.0f} % | {100 * low:.0f} to {100 * high:.0f} %"


def _of_several(count: str, looks: list[tuple[list[bool], list[bool]]]) -> Iterator[str]:
    yield _share(f"{count} things asked for: all in their colours", (all(c) for c, _ in looks))
    yield _share(f"{count} things asked for: all in their kinds", (all(k) for _, k in looks))


def _in_kind(kind: str, rows: list[dict]) -> Iterable[bool]:
    pairs = (zip(row["things"], row["kind"], strict=True) for row in rows)
    return (hit for thing, hit in chain.from_iterable(pairs) if thing == kind)


def _worth(time: str, rows: list[dict]) -> str:
    right, wrong = zip(*(row["told"][time] for row in rows), strict=True)
    ratio = mean(wrong) / mean(right)
    rest = [100 * (b - ratio * a) / mean(right) for a, b in zip(right, wrong, strict=True)]
    error = stdev(rest) / sqrt(len(rest)) if len(rest) > 1 else inf
    return f"| {100 * (ratio - 1):.1f} % | {error:.1f} % | {time} | {len(rest)} |"


def _heat(role: str, where: str, maps: list[dict]) -> str:
    maps = [each for each in maps if each["role"] == role]
    columns = _percent([each["points"] for each in maps])
    if not maps:
        return f"| {role} | {where} | {columns} | | | | 0 |"

    area, overlap, chance = (mean(each[key] for each in maps) for key in HEAT)
    return (
        f"| {role} | {where} | {columns} | {100 * area:.0f} % | {overlap:.2f} | {chance:.2f} | "
        f"{len(maps)} |"
    )

"""What was measured, as tables with intervals, put into the model card and into HISTORY.md."""

from collections.abc import Callable
from functools import partial
from math import inf, sqrt
from operator import itemgetter
from pathlib import Path
from statistics import mean, stdev

from unet_explained.bundled.world import KINDS
from unet_explained.writing import write_file

AVERAGE = "all, averaged"  # the last line of the table by layer
ROLES = ("noun", "colour")
SAMPLED = "sampled pictures, things that came out as asked for"
TELLING = (  # of all shares, those for the model card
    "every thing in its colour and kind",
    "a thing is in its colour",
    "a thing is in its kind",
    "a thing is in both",
    "a thing of an unseen pair is in its colour",
    "a thing of an unseen pair is in its kind",
    "a thing of an unseen pair is in both",
    "three things asked for: all in their colours",
    "three things asked for: all in their kinds",
    "as many things as were asked for",
    "a told relation holds (chance: a quarter at most)",
    "a thing is at its told place",
)
START, END = "<!-- measured -->", "<!-- /measured -->"


def put(document: Path, measured: str) -> None:
    """Replaces what stands between the document's two marks."""
    text = document.read_text() if document.exists() else f"{START}\n{END}\n"
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    write_file(document, f"{before}{START}\n{measured}\n{END}{after}".encode())


def in_short(rows: list[dict], steps: int) -> str:
    """The most telling figures of scored captions, as Markdown: for the model card."""
    shares, maps = _shares(rows), _maps(rows)
    return "\n\n".join(
        [
            _about(rows, steps),
            _share_table({what: shares[what] for what in TELLING}),
            _heat_table({SAMPLED: maps[SAMPLED]}),
        ]
    )


def in_full(rows: list[dict], steps: int, psnr: float) -> str:
    """All figures of scored captions, as Markdown."""
    return "\n\n".join(
        [
            _about(rows, steps),
            _share_table(_shares(rows)),
            f"VAE round trip at 512 x 512: {psnr:.1f} dB PSNR.",
            _kind_word_table(rows),
            _heat_table(_maps(rows)),
            f"```\n{by_layer(rows)}\n```",
        ]
    )


def _about(rows: list[dict], steps: int) -> str:
    return (
        f"{len(rows)} captions of held-out scenes, a picture each; {steps} steps; 95 % intervals,\n"
        "in which things of one picture are taken as independent."
    )


def _shares(rows: list[dict]) -> dict[str, list[bool]]:
    """By what can come out right: whether it did, each time that it could."""
    things = [thing for row in rows for thing in _things(row)]
    unseen = [thing for thing in things if thing["unseen"]]
    seen = [thing for thing in things if not thing["unseen"]]
    return {
        "every thing in its colour": [all(row["colour"]) for row in rows],
        "every thing in its kind": [all(row["kind"]) for row in rows],
        "every thing in its colour and kind": [all(row["colour"] + row["kind"]) for row in rows],
        **_looks("a thing", things),
        **_looks("a thing of an unseen pair", unseen),
        **_looks("a thing of a seen pair", seen),
        **{
            f"a {kind} is in its kind": [each["kind"] for each in things if each["is"] == kind]
            for kind in KINDS
        },
        **_of_several("two", [row for row in rows if len(row["things"]) == 2]),
        **_of_several("three", [row for row in rows if len(row["things"]) == 3]),
        "as many things as were asked for": [row["shown"] == len(row["things"]) for row in rows],
        "a told relation holds (chance: a quarter at most)": [
            row["relation"] for row in rows if "relation" in row
        ],
        "a thing is at its told place": [hit for row in rows for hit in row["place"]],
        "the judge is right about a thing of a render": [
            hit for row in rows for hit in row["judge_render"]
        ],
        "the judge is right about a thing of a VAE round trip": [
            hit for row in rows for hit in row["judge_round_trip"]
        ],
    }


def _things(row: dict) -> list[dict]:
    names = ("is", "unseen", "colour", "kind")
    columns = (row["things"], row["unseen"], row["colour"], row["kind"])
    return [dict(zip(names, each, strict=True)) for each in zip(*columns, strict=True)]


def _looks(what: str, things: list[dict]) -> dict[str, list[bool]]:
    return {
        f"{what} is in its colour": [thing["colour"] for thing in things],
        f"{what} is in its kind": [thing["kind"] for thing in things],
        f"{what} is in both": [thing["colour"] and thing["kind"] for thing in things],
    }


def _of_several(count: str, rows: list[dict]) -> dict[str, list[bool]]:
    return {
        f"{count} things asked for: all in their colours": [all(row["colour"]) for row in rows],
        f"{count} things asked for: all in their kinds": [all(row["kind"]) for row in rows],
    }


def _share_table(shares: dict[str, list[bool]]) -> str:
    head = ["| the picture shows | share | interval | of |", "|---|---|---|---|"]
    lines = [f"| {what} | {_percent(hits)} | {len(hits)} |" for what, hits in shares.items()]
    return "\n".join(head + lines)


def _percent(hits: list[bool]) -> str:
    """A share and its interval, as two columns."""
    if not hits:
        return "none | "
    low, high = wilson(sum(hits), len(hits))
    return f"{100 * sum(hits) / len(hits):.0f} % | {100 * low:.0f} to {100 * high:.0f} %"


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


def _kind_word_table(rows: list[dict]) -> str:
    head = [
        "| if told another kind, the error around a thing grows by | standard error | at t | of |",
        "|---|---|---|---|",
    ]
    return "\n".join(head + [_worth(time, rows) for time in rows[0]["kind_word"]])


def _worth(time: str, rows: list[dict]) -> str:
    right, wrong = zip(*(row["kind_word"][time] for row in rows), strict=True)
    ratio = mean(wrong) / mean(right)
    rest = [100 * (b - ratio * a) / mean(right) for a, b in zip(right, wrong, strict=True)]
    error = stdev(rest) / sqrt(len(rest)) if len(rest) > 1 else inf
    return f"| {100 * (ratio - 1):.1f} % | {error:.1f} % | {time} | {len(rest)} |"


def _maps(rows: list[dict]) -> dict[str, list[dict]]:
    """The graded heatmaps, by what they are on."""
    rendered = {
        f"renders noised to t = {time}": [each for row in rows for each in row["rendered"][time]]
        for time in rows[0]["rendered"]
    }
    return rendered | {SAMPLED: [each for row in rows for each in row["sampled"]]}


def _heat_table(maps: dict[str, list[dict]]) -> str:
    head = [
        "| heatmap of | on | points at its thing | interval | chance | IoU | chance | maps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines = [_heat(role, on, each) for role in ROLES for on, each in maps.items()]
    return "\n".join(head + lines)


def _heat(role: str, on: str, maps: list[dict]) -> str:
    maps = [each for each in maps if each["role"] == role]
    columns = _percent([each["points"] for each in maps])
    if not maps:
        return f"| {role} | {on} | {columns} | | | | 0 |"
    area, overlap, chance = (
        mean(each[key] for each in maps) for key in ("area", "iou", "chance_iou")
    )
    return (
        f"| {role} | {on} | {columns} | {100 * area:.0f} % | {overlap:.2f} | {chance:.2f} | "
        f"{len(maps)} |"
    )


def by_layer(rows: list[dict]) -> str:
    """How often a word's map points at its thing, in percent, by layer and timestep of renders."""
    names = rows[0]["layers"]
    width = max(map(len, names))
    lines = []
    for role in ROLES:
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

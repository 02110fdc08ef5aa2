"""What a drawing of the U is made of: boxes, frames, wires and texts, as data."""

from ..recording.rows import stage_of
from .colours import STAGE_COLOURS, ink
from .plan import Plan

BOX = 20  # the height of a box
SHAPES = {"downsamplers": "sampler", "upsamplers": "sampler", "attentions": "pale"}
WORDS = {"resnets": "resnet", "downsamplers": "downsample", "upsamplers": "upsample"}

Point = tuple[float, float]


def sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


class Sheet:
    """Takes what is drawn. A box is placed by its left edge and its middle line."""

    def __init__(self, plan: Plan, width: int) -> None:
        self.plan, self.width = plan, width
        self.boxes, self.blocks, self.skips, self.bars = (list[dict]() for _ in range(4))
        self.levels, self.texts, self.pins = (list[dict]() for _ in range(3))
        self.wires: list[list[Point]] = []

    def as_json(self, height: float) -> dict:
        lists = ("boxes", "blocks", "skips", "bars", "levels", "wires", "texts", "pins")
        stages = {name: [colour, ink(colour)] for name, colour in STAGE_COLOURS.items()}
        drawn = {name: getattr(self, name) for name in lists}
        return dict(width=self.width, height=height, stages=stages) | drawn

    def block(self, name: str, label: dict, x: float, y: float, width: float, height: float):
        place = dict(x=x, y=y, width=width, height=height)
        kind = self.plan.rows[name].kind
        self.blocks.append(dict(name=name, kind=kind, stage=stage_of(name), label=label) | place)

    def box(self, name: str, x: float, y: float, length: float, height: float = BOX) -> None:
        kind = next((part for part in SHAPES if part in name), "")
        self.boxes.append(
            dict(
                name=name, label=self._label(name), stage=stage_of(name),
                shape=SHAPES.get(kind, "full"),
                x=round(x, 1), y=y - height / 2, width=round(length, 1), height=height,
            )
        )  # fmt: skip
        if "resnets" in name:
            self.pins.append(dict(x=x + 8, y=y - height / 2, what="time", of=name))
        elif "attentions" in name:
            self.pins.append(dict(x=x + length - 8, y=y - height / 2, what="input", of=name))

    def _label(self, name: str) -> str:
        """The word for what there are many of; the name of what there is one of."""
        if "attentions" in name:
            depth = self.plan.depth(name)
            return "attention" + (f" ×{depth}" if depth > 1 else "")
        return next((word for part, word in WORDS.items() if part in name), name)

    def elbow(self, start: Point, end: Point) -> None:
        """Out of one box and into the next one by right angles."""
        middle = (start[1] + end[1]) / 2
        bend = [(start[0], middle), (end[0], middle)] if start[0] != end[0] else []
        self.wires.append([start, *bend, end])

    def chain(self, names: list[str], x: float, y: float) -> None:
        """One or two boxes side by side around x."""
        x -= (104 * len(names) + 14 * (len(names) - 1)) / 2
        for i, name in enumerate(names):
            if i:
                self.wires.append([(x - 14, y), (x, y)])
            self.box(name, x, y, 104, 18)
            x += 118

    def text(self, x: float, y: float, text: str, look: str = "", side: str = "middle") -> None:
        self.texts.append(dict(x=x, y=y, text=text, look=look, side=side))

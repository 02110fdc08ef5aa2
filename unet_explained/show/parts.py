"""What a drawing of the U is made of: boxes, pins, wires and words, as data for all to draw."""

from ..recording.rows import stage_of
from .plan import Plan

BOX = 20  # the height of a box in a line
SHAPES = {"downsamplers": "sampler", "upsamplers": "sampler", "attentions": "pale"}
WORDS = {"resnets": "resnet", "downsamplers": "downsample", "upsamplers": "upsample"}

Point = tuple[float, float]


def sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


class Parts:
    """What was drawn so far of a plan. A box is placed by its left edge and its middle line."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.boxes, self.blocks, self.skips, self.bars = (list[dict]() for _ in range(4))
        self.levels, self.texts, self.pins = (list[dict]() for _ in range(3))
        self.wires: list[list[Point]] = []

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

    def text(self, x: float, y: float, text: str, look: str = "", side: str = "middle") -> None:
        self.texts.append(dict(x=x, y=y, text=text, look=look, side=side))

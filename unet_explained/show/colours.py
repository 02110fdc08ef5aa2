"""The colours of the six stages, the same in every picture; and the colour map of attention."""

STAGES = {  # told apart by brightness too, and on a dark ground as on a white one
    "input": "#8d99ae",
    "time": "#9b5de5",
    "pre-process": "#5aa9e6",
    "down": "#2a9d8f",
    "mid": "#e0a100",
    "up": "#ee6c4d",
    "post-process": "#c9184a",
}
ATTENTION = "inferno"


def stage_of(name: str) -> str:
    """The stage that a module of the UNet belongs to, by its name."""
    starts = {
        "time": ("time_", "class_embedding", "add_"),
        "pre-process": ("conv_in",),
        "down": ("down_blocks",),
        "mid": ("mid_block",),
        "up": ("up_blocks",),
        "post-process": ("conv_norm_out", "conv_act", "conv_out"),
    }
    for stage, beginnings in starts.items():
        if name.startswith(beginnings):
            return stage
    raise ValueError(f"{name!r} begins like no module of the UNet's stages")

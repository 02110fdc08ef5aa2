"""python -m figures: make every picture of this folder again, on the bundled model."""

from pathlib import Path

import unet_explained as ux

HERE = Path(__file__).parent
PROMPT = "a red circle left of a blue square"


def heatmaps():
    """The README's first picture: what each word lights up."""
    pipe = ux.load(device="cpu")
    with ux.record(pipe.unet) as recording:
        run = pipe(PROMPT)
    return ux.plot_heatmaps(run, recording)


PICTURES = {"heatmaps.png": heatmaps}

if __name__ == "__main__":
    for name, make in PICTURES.items():
        make().savefig(HERE / name, dpi=100, bbox_inches="tight")
        print(f"wrote {HERE / name}")

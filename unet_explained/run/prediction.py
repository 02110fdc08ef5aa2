"""What a UNet predicts, noise or velocity, where a file of weights or its neighbour says so."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

LARGEST = 2**20  # bytes of a .yaml beside a file
VELOCITY, NOISE = "v_prediction", "epsilon"
WORDS = {"v": VELOCITY, "velocity": VELOCITY, VELOCITY: VELOCITY, "eps": NOISE, NOISE: NOISE}


def prediction_of(
    file: Path, metadata: Mapping[str, str], names: Collection[str], usual: str
) -> str:
    """epsilon or v_prediction: as the .yaml beside the file says, its metadata, or a mark in it.

    Names and shapes do not show it; usual is for where nothing does.
    """
    said = _yaml(file.with_suffix(".yaml")) or metadata.get("modelspec.prediction_type", "")
    marked = VELOCITY if "v_pred" in names else usual  # an empty tensor of that name
    return WORDS.get(said.lower(), marked)


def _yaml(file: Path) -> str:
    """CompVis' config of a model: without a line on it, its own default."""
    if not file.is_file() or file.stat().st_size > LARGEST:
        return ""
    text = file.read_text(errors="replace")
    if line := re.search(r"^\s*parameterization:\s*[\"']?(\w+)", text, re.MULTILINE):
        return line[1]
    return NOISE if re.search(r"^\s*target:\s*ldm\.models\.", text, re.MULTILINE) else ""

"""record() for whatever people have: a UNet, this package's pipeline, a diffusers pipeline."""

from typing import Any

from torch import nn

from .. import recording
from ..recording.watch import Watch
from .denoise import Pipeline
from .reader import PipelineReader


def record(what: Any, *patterns: str, **options) -> Watch:
    """Watch a UNet in anybody's hands: `with record(pipe) as rec: out = pipe("a cat on a mat")`.

    what: a diffusers pipeline, unmodified, whose texts and pictures are then known; or a UNet
    alone, of diffusers or of this package; or what ux.load gives. The picture stays the same.
    patterns: globs over module names in which * crosses dots; their outputs are kept.
    options, all by name: attention="mean" (of every cross-attention the mean of its heads, float16;
    or "heads", "sum" over steps in float32, None), self_attention=False (queries and keys are kept
    too), halves="conditional" (or "both"), stats=False (of every module's output), budget="2GB"
    (that may be kept in all), device="cpu" (where it is kept).
    What each forward was given is kept in what room is left, for Recording.replay. Compiled models
    run eagerly meanwhile.
    A run whose output is not finite is said once, as the `with` ends: a NonfiniteWarning names the
    step and the module, and so does rec.first_nonfinite.
    Raises ValueError for a pattern that fits no module, TypeError for what has no UNet, and, from
    within the first forward that shows it, BudgetError for more than the budget.
    """
    unet = what if isinstance(what, nn.Module) else getattr(what, "unet", None)
    if not isinstance(unet, nn.Module):
        raise TypeError(
            f"record: expected a UNet or a pipeline that has one as .unet, got "
            f"{type(what).__name__}"
        )
    # This package's own loop says itself whose its forwards are.
    reads = hasattr(what, "components") and not isinstance(what, nn.Module | Pipeline)
    reader = PipelineReader(what) if reads else None
    return recording.record(unet, *patterns, reader=reader, **options)

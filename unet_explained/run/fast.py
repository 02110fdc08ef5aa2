"""Where and in which type a model runs, and the layout its convolutions like."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Model = TypeVar("Model", bound=nn.Module)


def choose(
    device: str | torch.device | None = None, dtype: str | torch.dtype | None = None
) -> tuple[torch.device, torch.dtype]:
    """The device and type to run on: as asked, else CUDA in float16, else the CPU in float32.

    Raises ValueError for an unknown device or type, CUDA where there is none, and float16 on a CPU.
    """
    device = _device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: this torch sees no CUDA device; use device='cpu'")
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        dtype = DTYPES[dtype]
    if device.type == "cpu" and dtype == torch.float16:
        raise ValueError(
            "float16 on a CPU is hundreds of times slower than float32: use dtype='bfloat16' for "
            "half the memory, or 'float32' (a float16 checkpoint loads into either)"
        )
    return device, dtype


def _device(name: str | torch.device) -> torch.device:
    try:
        return torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"device {name!r}: expected cpu, cuda, cuda:1 or the like") from None


def place(model: Model, device: torch.device, dtype: torch.dtype) -> Model:
    """The model on its device, in channels_last: the layout convolutions are fastest in."""
    # nn.Module's own `to`: diffusers' warns of its float32 modules even where there are none.
    move: Callable[..., Model] = nn.Module.to  # whose types leave memory_format out
    return move(model, device, dtype, memory_format=torch.channels_last).eval()

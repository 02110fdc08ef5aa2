"""What only reading shows of damaged files: numbers that are none, and errors of libraries."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from ..json_file import AGAIN

GUARDS = {
    "weights_only": "it holds more than tensors, or is damaged",
    "trust_remote_code": "it asks for code of its own, which is never run",
}


def expect_finite(where: Path | str, model: nn.Module) -> None:
    """Raises ValueError for the first parameter with a NaN or Inf: pictures would be black."""
    for name, tensor in model.named_parameters():
        if not _is_finite(tensor.detach()):
            odd = int((~tensor.detach().float().isfinite()).sum())
            raise ValueError(
                f"{where}: {name} has {odd} numbers of {tensor.numel()} that are NaN or "
                f"Inf{AGAIN}, or in Python pass allow_nonfinite=True to go on"
            )


def _is_finite(tensor: Tensor) -> bool:
    """In one pass, without a copy: the extremes of a tensor with a NaN are NaN."""
    tensor = tensor.float() if tensor.itemsize == 1 else tensor  # float8 has no order in torch
    return tensor.numel() == 0 or all(math.isfinite(end) for end in tensor.aminmax())


@contextmanager
def named(path: Path, instead: str = "copy or download it again") -> Iterator[None]:
    """Errors of libraries, of any kind and length, become one line with the file's name."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        # The libraries go on to tell how their guards against code in files are switched off.
        unsaid = next((words for guard, words in GUARDS.items() if guard in said), said[:200])
        raise ValueError(
            f"{path} could not be read ({type(error).__name__}: {unsaid}); {instead}"
        ) from error

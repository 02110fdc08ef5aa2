"""Hooks that are taken off again."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Inside `with`, the hooks of these handles stay on; a generator places them as it is read.

    All that were placed are taken off on leaving, also if placing one failed.
    """
    with ExitStack() as stack:
        # A compiled model ignores hooks that come after it, and says nothing. (Importing dynamo
        # costs seconds; who has compiled anything has imported it.)
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for handle in handles:
            stack.callback(handle.remove)
        yield

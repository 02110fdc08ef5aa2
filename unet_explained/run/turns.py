"""One forward of a UNet at a time, where runs and replays share it in several threads."""

from threading import Lock
from weakref import WeakKeyDictionary

from torch import nn


class Turns:
    """A lock that goes to whoever waits for it, not back to whoever just had it.

    A replay must not see the forwards of a run in another thread, nor wait for that run's end.
    """

    def __init__(self) -> None:
        self.next, self.now = Lock(), Lock()

    def __enter__(self) -> None:
        with self.next:
            self.now.acquire()

    def __exit__(self, *error) -> None:
        self.now.release()


TURNS: WeakKeyDictionary[nn.Module, Turns] = WeakKeyDictionary()


def one_at_a_time(unet: nn.Module) -> Turns:
    """To be held during a forward of this UNet: others wait until it ends."""
    return TURNS.setdefault(unet, Turns())

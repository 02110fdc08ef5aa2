"""Recording: what was seen while a model ran, by name, step, head, token and word."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One word of a prompt and where its sub-tokens stand in the sequence the UNet is given."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Announcement:
    """What a pipeline tells the recorders attached to its UNet before the first forward."""

    prompt: str
    words: tuple[Word, ...]  # in reading order; a repeated word stands here each time
    forwards: int  # how many times the UNet will be called
    conditional: slice  # the part of the batch that is given the prompt

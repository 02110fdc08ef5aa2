"""The calls of somebody's pipeline: where each begins and ends, and what it was asked for."""

import inspect
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch import Tensor

from ..recording import Origin, Row
from ..recording.identity import ROLES


class Call:
    """One call of a pipeline, which is one run: its texts and embeddings by role, its pictures."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.origin = Origin()
        self.read: set[tuple[str, ...]] = set()  # tokens of what it encoded before its forwards
        self.strings = [*_strings(list(arguments.values()))]
        named = {name: value for name, value in arguments.items() if "prompt" in name}
        self.texts = {
            role: [text for name in named if _role(name) == role for text in _strings(named[name])]
            for role in ROLES
        }
        self.embeddings = {
            role: [named[n] for n in named if _role(n) == role and isinstance(named[n], Tensor)]
            for role in ROLES
        }
        if not (self.texts[ROLES[1]] or self.embeddings[ROLES[1]]):
            self.texts[ROLES[1]] = [""]  # what every pipeline takes for no negative prompt
        prompts = arguments.get("prompt")
        given = arguments.get("prompt_embeds")
        if prompts is None and given is not None:
            prompts = [None] * len(given)
        each = [prompts] if isinstance(prompts, str) else prompts
        each = each if isinstance(each, list | tuple) else []  # of others the pipeline complains
        copies = next((arguments[n] for n in COPIES if arguments.get(n)), 1)
        self.prompts = [prompt for prompt in each for _ in range(copies)]  # one a picture
        self.places: dict[int, tuple[Row, ...]] = {}  # whose the places of so many rows were last

    def placed(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Rows of the call's own loop. It takes the same places for the same halves, so a text that
        comes midway, as from a callback, is for whom the one before it was."""
        taken = {(row.role, row.picture) for row in rows}
        rows = tuple(
            row if row.role or (old.role, old.picture) in taken
            else row._replace(role=old.role, picture=old.picture)
            for row, old in zip(rows, self.places.get(len(rows), rows))
        )  # fmt: skip
        if all(row.role for row in rows):
            self.places[len(rows)] = rows
        return rows


COPIES = ("num_images_per_prompt", "num_videos_per_prompt")


def _role(name: str) -> str | None:
    """Of an argument, by its name: "prompt", "prompt_2", "negative_prompt_embeds" ..."""
    stem = name.removesuffix("_embeds").rstrip("_23")
    return {"prompt": ROLES[0], "negative_prompt": ROLES[1]}.get(stem)


def plain(text: str) -> str:
    """What tokenizers may take for the same text, and pipelines make the same."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _strings(value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


# Who watches which pipeline: while anybody does, its class is a subclass that tells of calls.
_WATCHERS: "WeakKeyDictionary[Any, list[ref[Watching]]]" = WeakKeyDictionary()


class Watching:
    """Until closed: `begin(call)` gives a context manager around each call of a pipeline.

    encoding: told the strings of each encode_prompt. A pipeline whose watcher was not closed, as
    an interrupt came between, goes back to its class at its next call.
    """

    def __init__(self, pipe, begin: Callable, encoding: Callable[[list[str]], None]) -> None:
        self.pipe, self.begin, self.encoding, self.open = pipe, begin, encoding, False

    def __enter__(self) -> "Watching":
        self.open = True
        _WATCHERS.setdefault(self.pipe, []).append(ref(self))
        _watch(self.pipe)
        return self

    def close(self) -> None:
        self.open = False
        _watchers(self.pipe)


def _watchers(pipe) -> list[Watching]:
    """Those that are open; without any the pipeline has its own class again."""
    if not (found := _open(pipe)) and hasattr(type(pipe), "_unwatched"):
        pipe.__class__ = type(pipe)._unwatched
        if _open(pipe):  # of a thread that came meanwhile; an interrupt would leave a lock locked
            _watch(pipe)
    return found


def _open(pipe) -> list[Watching]:
    each = _WATCHERS.get(pipe, [])
    for one in [*each]:
        if not ((watching := one()) and watching.open):
            with suppress(ValueError):  # another thread did it
                each.remove(one)
    return [watching for one in [*each] if (watching := one())]


def _watch(pipe) -> None:
    if not hasattr(type(pipe), "_unwatched"):
        pipe.__class__ = _watched(type(pipe))


def _watched(kind: type) -> type:
    """A subclass of its class, of the same name: Python looks for __call__ in the class alone."""

    @wraps(kind.__call__)  # type: ignore[attr-defined]
    def __call__(self, *args, **kwargs):
        watchers = _watchers(self)
        with ExitStack() as stack:
            if watchers:
                bound = inspect.signature(kind.__call__).bind_partial(self, *args, **kwargs)
                bound.apply_defaults()
            for watching in watchers:
                stack.enter_context(watching.begin(Call(bound.arguments)))
            return kind.__call__(self, *args, **kwargs)  # type: ignore[attr-defined]

    def __reduce_ex__(self, protocol):
        """A copy or a pickle is of its own class."""
        _, _, *rest = super(kind, self).__reduce_ex__(protocol)
        return object.__new__, (kind,), *rest

    body: dict[str, Any] = {"_unwatched": kind, "__call__": __call__, "__module__": kind.__module__}
    body["__reduce_ex__"] = __reduce_ex__
    if hasattr(kind, "encode_prompt"):

        @wraps(kind.encode_prompt)
        def encode_prompt(self, *args, **kwargs):
            for watching in _watchers(self):
                watching.encoding([*_strings([args, *kwargs.values()])])
            return kind.encode_prompt(self, *args, **kwargs)

        body["encode_prompt"] = encode_prompt
    return type(kind.__name__, (kind,), body)

"""From a prompt to tokens, the words they belong to, and the embeddings the UNet looks at."""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..recording import Text, Word
from ..recording.identity import tokens_at
from ..words import brief

WORD = re.compile(r"\w+(?:['’-]\w+)*")
Read = TypeVar("Read", bound=Text)


def _no_ids() -> Int[Tensor, "1 token"]:
    return torch.zeros(1, 0, dtype=torch.long)


@dataclass(frozen=True)
class Prompt(Text):
    """A prompt as the text encoder is given it: token by token, padded to one length.

    ids_2: as SDXL's second text encoder is given it, whose padding is another token.
    """

    ids: Int[Tensor, "1 token"] = field(repr=False, compare=False, default_factory=_no_ids)
    ids_2: Int[Tensor, "1 token"] = field(repr=False, compare=False, default_factory=_no_ids)


NOTHING = Prompt("", (), (), ())  # of a row of zeros, SDXL's for no negative prompt


def expect_text(text: Any, name: str = "prompt") -> None:
    """Raise TypeError for what is no text, ValueError for text that has halves of characters."""
    if not isinstance(text, str):
        kind = f"{type(text).__name__}: {brief(text)}"
        raise TypeError(f"{name}: expected one string, got {kind}")
    if half := re.search("[\ud800-\udfff]", text):
        code, place = f"U+{ord(half.group()):04X}", half.start()
        raise ValueError(f"{name}: expected text, got what is no text: {code} at place {place}")


def expect_words(text: str, tokenizer=None) -> tuple[str, ...]:
    """The words of a prompt; raises ValueError for one without, as maps are of words alone.

    tokenizer: to know what is cut off; without one, a prompt may turn out to have none.
    """
    expect_text(text)
    words = WORD.findall(text) if tokenizer is None else _tokenized(text, tokenizer)[0].words
    if not words:
        raise ValueError(f"prompt: {brief(text)} has no word that a map could be of; write one")
    return tuple(words)


def read_prompt(text: str, tokenizer, tokenizer_2=None, name: str = "prompt") -> Prompt:
    """Tokenize a prompt; warns, naming the words, if some fall beyond the encoder's length.

    tokenizer_2: of a second text encoder that reads the same prompt, as SDXL's. name: of the
    argument, for what is no text.
    """
    expect_text(text, name)
    prompt, cut_off = _tokenized(text, tokenizer)
    if cut_off:
        warnings.warn(
            f"the {name.replace('_', ' ')} is longer than {tokenizer.model_max_length} tokens: "
            f"{_in_short(cut_off)} is cut off and changes nothing",
            stacklevel=3,
        )
    if tokenizer_2 is not None:
        other, _ = _tokenized(text, tokenizer_2)
        return replace(beside([prompt, other]), ids_2=other.ids)
    return prompt


def _in_short(words: list[str]) -> str:
    """Words as they stand, or the first and the last of them, and how many there are."""
    shown = [word if len(word) <= 40 else f"{word[:40]}..." for word in words]
    if len(words) <= 12:
        return repr(" ".join(shown))
    return f"{' '.join([*shown[:4], '...', *shown[-4:]])!r} ({len(words)} words)"


def beside(texts: Sequence[Read]) -> Read:
    """What two encoders read: one text, or the first, and the second at the same places."""
    first, *rest = texts
    same = not rest or (rest[0].text, rest[0].places) == (first.text, first.places)
    return first if same else replace(first, second=rest[0])


def _tokenized(text: str, tokenizer, length: int | None = None) -> tuple[Prompt, list[str]]:
    """And the words that fall beyond the encoder's length."""
    encoded = tokenizer(
        text, padding="max_length", truncation=True, return_offsets_mapping=tokenizer.is_fast,
        max_length=length or tokenizer.model_max_length, return_tensors="pt",
    )  # fmt: skip
    ids, length = encoded.input_ids, used(encoded.input_ids[0], tokenizer)
    tokens = tuple(tokenizer.convert_ids_to_tokens(ids[0, :length].tolist()))
    if tokenizer.is_fast:
        places = tuple(map(tuple, encoded.offset_mapping[0].tolist()))[:length]
    else:
        places = _searched(text, tokens)
    spans = words_of(text, places)
    cut_off = [match.group() for match in list(WORD.finditer(text))[len(spans) :]]
    return Prompt(text, tokens, places, spans, ids=ids), cut_off


def _searched(text: str, tokens: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Places of the tokens of a tokenizer that does not say them; those not found cover nothing."""
    places, end = [], 0
    for token in tokens:
        written = token.replace("</w>", "").replace("▁", "")
        start = text.lower().find(written.lower(), end)
        if start < 0 or text[end:start].strip():
            places.append((end, end))
        else:
            places.append((start, end := start + len(written)))
    return tuple(places)


def used(ids: Int[Tensor, "token"], tokenizer) -> int:
    """How many tokens there are before the padding, start and end token included."""
    ends = (ids == tokenizer.eos_token_id).nonzero() if tokenizer.eos_token_id is not None else []
    return int(ends[0]) + 1 if len(ends) else len(ids)


def words_of(text: str, places: Sequence[tuple[int, int]]) -> tuple[Word, ...]:
    """The words that have tokens, in reading order."""
    found = ((match, tokens_at(places, *match.span())) for match in WORD.finditer(text))
    return tuple(Word(match.group(), tokens) for match, tokens in found if tokens)


def text_of(ids: Int[Tensor, "token"], tokenizer, texts: Iterable[tuple[str, str]]) -> Text:
    """The text that a text encoder was given as ids.

    texts: what it may have been, as it was written and as the tokenizer was given it (a textual
    inversion's "<x>" becomes "<x> <x>_1"); none of them: it is spelt from the ids.
    """
    length = used(ids, tokenizer)
    spelt = tokenizer.decode(ids[:length].tolist(), skip_special_tokens=True)
    for written, given in [*texts, (spelt, spelt)]:
        prompt, _ = _tokenized(given, tokenizer, len(ids))
        if len(prompt.tokens) == length and torch.equal(prompt.ids[0, :length], ids[:length]):
            places = prompt.places if written == given else _as_written(written, given, prompt)
            return Text(written, prompt.tokens, places, words_of(written, places))
    return _spelt(tokenizer.convert_ids_to_tokens(ids[:length].tolist()), tokenizer)


def _as_written(written: str, given: str, prompt: Prompt) -> tuple[tuple[int, int], ...]:
    """The places of tokens in a text whose placeholders were written out: all of one are there.

    Both texts are the same but for what follows a placeholder, " <x>_1 <x>_2".
    """
    places, shift, extra = [], 0, 0  # extra: where what was added after a placeholder ends
    start = end = 0
    for first, last in prompt.places:
        if last > first and first >= extra:
            added = re.match(rf"(?: {re.escape(given[first:last])}_\d+)+", given[last:])
            start, end = first - shift, last - shift
            if added and not written.startswith(added.group(), end):
                extra, shift = last + added.end(), shift + added.end()
        places.append((start, end) if last > first else (first - shift, last - shift))
    return tuple(places)


def _spelt(tokens: list[str], tokenizer) -> Text:
    """Text of what no tokenizer gives back: the tokens one after the other."""
    text, places = "", []
    for token in tokens:
        start = len(text)
        if token not in tokenizer.all_special_tokens:
            text += token.replace("</w>", " ").replace("▁", " ")
        places.append((start, start + len(text[start:].rstrip())))
    text = text.rstrip()
    return Text(text, tuple(tokens), tuple(places), words_of(text, places))


@torch.no_grad()
def embed(prompt: Prompt, text_encoder) -> Float[Tensor, "1 token text"]:
    """The text encoder's last hidden state: one vector a token, padding included, as in SD."""
    return text_encoder(prompt.ids.to(text_encoder.device))[0]


@torch.no_grad()
def embed_twice(
    ids: Sequence[Int[Tensor, "1 token"]], encoders: Sequence
) -> tuple[Float[Tensor, "1 token text"], Float[Tensor, "1 text"]]:
    """The last hidden state but one of each encoder, side by side, and the second's summary.

    As in SDXL: Podell et al. 2023, section 2.1. The summary is the projected end token.
    """
    read = [
        encoder(each.to(encoder.device), output_hidden_states=True)
        for each, encoder in zip(ids, encoders, strict=True)
    ]
    context = torch.cat([output.hidden_states[-2] for output in read], dim=-1)
    return context, read[1].text_embeds

"""From a prompt to tokens, the words they belong to, and the embeddings the UNet looks at."""

import re
import warnings
from dataclasses import dataclass, field
from difflib import get_close_matches

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..recording import Text, Word
from ..recording.identity import tokens_at

WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class Prompt(Text):
    """A prompt as the text encoder is given it: token by token, padded to one length."""

    ids: Int[Tensor, "1 token"] = field(repr=False, compare=False)


def read_prompt(text: str, tokenizer) -> Prompt:
    """Tokenize a prompt; warns, naming the words, if some fall beyond the encoder's length."""
    if not isinstance(text, str):
        raise TypeError(f"prompt: expected one string, got {type(text).__name__}: {text!r}")
    encoded = tokenizer(
        text, padding="max_length", truncation=True, max_length=tokenizer.model_max_length,
        return_offsets_mapping=True, return_tensors="pt",
    )  # fmt: skip
    places = tuple(map(tuple, encoded.offset_mapping[0].tolist()))
    found = [(match, tokens_at(places, *match.span())) for match in WORD.finditer(text)]
    cut_off = [match.group() for match, tokens in found if not tokens]
    if cut_off:
        warnings.warn(
            f"the prompt is longer than {tokenizer.model_max_length} tokens: "
            f"{' '.join(cut_off)!r} is cut off and changes nothing",
            stacklevel=3,
        )
    ids = encoded.input_ids
    length = int((ids[0] == tokenizer.eos_token_id).nonzero()[0]) + 1
    return Prompt(
        text=text,
        tokens=tuple(tokenizer.convert_ids_to_tokens(ids[0, :length].tolist())),
        places=places[:length],
        spans=tuple(Word(match.group(), tokens) for match, tokens in found if tokens),
        ids=ids,
    )


def warn_of_unknown_words(prompt: Prompt, known: frozenset[str]) -> None:
    """Name the words a model with a small vocabulary was never shown, and its nearest words."""
    unknown = sorted({word for word in prompt.words if word.lower() not in known})
    for word in unknown:
        near = get_close_matches(word.lower(), known, n=3)
        hint = f"nearest: {', '.join(near)}" if near else f"it knows: {', '.join(sorted(known))}"
        warnings.warn(f"this model was never shown the word {word!r}; {hint}", stacklevel=4)


@torch.no_grad()
def embed(prompt: Prompt, text_encoder) -> Float[Tensor, "1 token text"]:
    """The text encoder's last hidden state: one vector a token, padding included, as in SD."""
    return text_encoder(prompt.ids.to(text_encoder.device))[0]

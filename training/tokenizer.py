"""A CLIPTokenizer for the small world: each of its words is one token, a few are two."""

from jaxtyping import Int
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer

from unet_explained.bundled.captions import WORDS

START, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 77
TWO_TOKENS = {
    "triangle": ("tri", "angle"),
    "butterfly": ("butter", "fly"),
    "sailboat": ("sail", "boat"),
    "background": ("back", "ground"),
}


def build_tokenizer() -> CLIPTokenizer:
    """The tokenizer of the bundled pipeline; text it was not taught falls back to letters."""
    vocabulary, merges = _vocabulary()
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=TOKENS,
    )


def token_ids(texts: list[str], tokenizer: CLIPTokenizer) -> Int[Tensor, "batch token"]:
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def _vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """All tokens in the order of their ids, and the byte-pair merges that make the words.

    A word's last letter carries "</w>", as in CLIP. Words grow from their last letter to the left,
    so no word's merges can disturb another's. No merge joins the two tokens of a word.
    """
    letters = sorted(ByteLevel.alphabet())  # one for each byte, so that no text is unknown
    merges = {}  # an ordered set
    for word in WORDS:
        tail = TWO_TOKENS.get(word, (None, word))[1]
        for index in range(len(tail) - 1, 0, -1):
            merges[tail[index - 1], tail[index:] + "</w>"] = None
    for head, _ in TWO_TOKENS.values():
        for index in range(1, len(head)):
            merges[head[:index], head[index]] = None
    tokens = [one + two for one, two in merges]
    return [*letters, *(letter + "</w>" for letter in letters), *tokens, START, END], list(merges)

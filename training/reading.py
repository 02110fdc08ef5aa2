"""The second stage of training: the text encoder learns what a caption says, before any picture.

Each token's embedding must tell what has been said so far: of each thing that has been named its
kind, colour, size and (as well as the words allow) its place. That takes minutes, where learning it
through the UNet would take most of the training.

CLIP's text encoder looks back only: in "a circle left of a square" no word of the circle knows that
it is on the left. The padding after the caption does; it retells the things one by one, in turn, so
that a pixel finds each of them by its place.
"""

from random import Random

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from unet_explained.bundled.captions import NOUNS, Caption, describe, mentioned
from unet_explained.bundled.world import COLOURS, KINDS, SIZES, THINGS, Scene, sample_scene

FIELDS = (len(KINDS), len(COLOURS), len(SIZES), 2)  # logits of the looks, then x and y


class ReadingLoss(nn.Module):
    """How badly things can be read from the embedding of each token by one linear layer.

    `said`: the things that a token should know, told apart by their slot in one long answer.
    `retold`: the thing that a token of the padding is to tell of, in an answer that is the same for
    all slots.
    """

    def __init__(self, text_encoder: CLIPTextModel):
        super().__init__()
        self.text_encoder = text_encoder
        self.read = nn.Linear(text_encoder.config.hidden_size, THINGS * sum(FIELDS))
        self.retell = nn.Linear(text_encoder.config.hidden_size, sum(FIELDS))

    def forward(
        self,
        ids: Int[Tensor, "batch token"],
        said: Float[Tensor, "batch token slot"],
        retold: Float[Tensor, "batch token slot"],
        looks: Int[Tensor, "batch slot look"],
        places: Float[Tensor, "batch slot 2"],
    ) -> Float[Tensor, ""]:
        embeddings = self.text_encoder(ids).last_hidden_state
        one_each = self.read(embeddings).unflatten(2, (THINGS, -1))
        same = self.retell(embeddings)[:, :, None].expand_as(one_each)
        return sum(
            (_wrong(answer, looks, places) * where).sum() / where.sum()
            for answer, where in ((one_each, said), (same, retold))
        )


def _wrong(
    answer: Float[Tensor, "batch token slot field"],
    looks: Int[Tensor, "batch slot look"],
    places: Float[Tensor, "batch slot 2"],
) -> Float[Tensor, "batch token slot"]:
    *logits, place = answer.split(FIELDS, dim=3)
    total = 10 * (place - places[:, None]).square().sum(3)
    for index, logit in enumerate(logits):
        target = looks[:, None, :, index].expand(logit.shape[:3])
        total = total + F.cross_entropy(logit.movedim(3, 1), target, reduction="none")
    return total


def reading_batch(rng: Random, batch: int, tokenizer: CLIPTokenizer) -> dict[str, Tensor]:
    """Captions as ids, and what each of their tokens should know: the inputs of ReadingLoss.

    A third of the scenes have three things: which of them a token is to retell is hard to learn.
    """
    scenes = [sample_scene(rng, count=1 + number % THINGS) for number in range(batch)]
    captions = [describe(scene, rng) for scene in scenes]
    ids = tokenizer(
        [caption.text for caption in captions],
        padding="max_length",
        return_tensors="pt",
    ).input_ids
    facts = [_facts(scene, caption) for scene, caption in zip(scenes, captions, strict=True)]
    looks, places = (torch.tensor(column) for column in zip(*facts, strict=True))
    counts = torch.tensor([len(scene.things) for scene in scenes])
    return {
        "ids": ids,
        "said": _said(ids, tokenizer),
        "retold": retold(ids, counts, tokenizer),
        "looks": looks,
        "places": places,
    }


def _facts(scene: Scene, caption: Caption) -> tuple[list, list]:
    """Looks (slot, 3) as indices and places (slot, 2) around 0, in the order of the caption."""
    things = [scene.things[index] for index in mentioned(caption)]
    looks = [
        (KINDS.index(thing.kind), COLOURS.index(thing.colour), list(SIZES).index(thing.size))
        for thing in things
    ]
    places = [(2 * thing.x - 1, 2 * thing.y - 1) for thing in things]
    missing = THINGS - len(things)
    return looks + [(0, 0, 0)] * missing, places + [(0.0, 0.0)] * missing


def _said(ids: Tensor, tokenizer: CLIPTokenizer) -> Float[Tensor, "batch token slot"]:
    """1 where a slot's noun has been said and the caption has not ended, else 0."""
    last = [tokenizer(noun).input_ids[-2] for nouns in NOUNS.values() for noun in nouns]
    count = torch.isin(ids, torch.tensor(last)).cumsum(1)
    running = (ids == tokenizer.eos_token_id).cumsum(1) <= 1
    said = count[:, :, None] > torch.arange(THINGS)
    return (said & running[:, :, None]).float()


def retold(
    ids: Int[Tensor, "batch token"], counts: Int[Tensor, " batch"], tokenizer: CLIPTokenizer
) -> Float[Tensor, "batch token slot"]:
    """1 where a token of the padding tells of a slot's thing: they take turns."""
    ended = (ids == tokenizer.eos_token_id).cumsum(1) > 1
    turn = torch.arange(ids.shape[1])[:, None] % THINGS == torch.arange(THINGS)
    there = torch.arange(THINGS) < counts[:, None]
    return (ended[:, :, None] & turn & there[:, None]).float()

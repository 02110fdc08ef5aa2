"""The tokenizer, and the text encoder that learns to read captions."""

from random import Random

import torch
from transformers import CLIPTokenizer

from training.models import build_text_encoder
from training.reading import ReadingLoss, reading_batch
from training.tokenizer import TWO_TOKENS, build_tokenizer
from unet_explained.bundled.captions import WORDS
from unet_explained.bundled.world import COLOURS, KINDS
from unet_explained.run.checkpoints import load


def test_each_word_is_one_token_and_a_few_are_two(tmp_path):
    build_tokenizer().save_pretrained(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    for word in WORDS:
        expected = 2 if word in TWO_TOKENS else 1
        assert len(tokenizer.tokenize(word)) == expected, word
        assert tokenizer.decode(tokenizer(word).input_ids[1:-1]).strip() == word
    assert tokenizer.tokenize("triangle") == ["tri", "angle</w>"]


def test_any_text_can_be_tokenized():
    tokenizer = build_tokenizer()
    ids = tokenizer("a dinosaur, très chic 日本 7!", padding="max_length").input_ids
    assert len(ids) == tokenizer.model_max_length == 77
    assert ids.count(tokenizer.bos_token_id) == 1
    first_end = ids.index(tokenizer.eos_token_id)
    assert set(ids[first_end:]) == {tokenizer.pad_token_id}


def test_text_encoder_knows_where_a_prompt_ends():
    tokenizer = build_tokenizer()
    encoder = build_text_encoder(tokenizer)
    ids = tokenizer(["a red circle"], padding="max_length", return_tensors="pt").input_ids
    output = encoder(ids)
    end = ids[0].tolist().index(tokenizer.eos_token_id)
    assert torch.equal(output.pooler_output[0], output.last_hidden_state[0, end])


def test_reading_is_learnt_from_captions():
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    loss = ReadingLoss(build_text_encoder(tokenizer))
    batch = reading_batch(Random(0), 8, tokenizer)
    assert batch["said"].sum(1).max() > 0
    optimizer = torch.optim.AdamW(loss.parameters(), lr=3e-3)
    values = []
    for _ in range(12):
        values.append(loss(**batch))
        values[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert values[-1] < 0.8 * values[0]


def test_a_third_of_what_is_read_has_three_things():
    batch = reading_batch(Random(0), 9, build_tokenizer())
    told = (batch["retold"].sum(1) > 0).sum(1)
    assert sorted(told.tolist()) == [1] * 3 + [2] * 3 + [3] * 3


@torch.no_grad()
def test_the_padding_retells_each_of_three_things():
    """A linear layer, fitted to a part of the captions, reads each thing's looks off the others."""
    encoder, tokenizer = load(device="cpu").text_encoder, build_tokenizer()
    batch = reading_batch(Random(0), 720, tokenizer)
    three = (batch["retold"].sum(1) > 0).all(1)
    embeddings = encoder(batch["ids"][three]).last_hidden_state
    retold, looks = batch["retold"][three], batch["looks"][three]
    told = torch.einsum("btc,bts->bsc", embeddings, retold) / retold.sum(1)[..., None]
    told = torch.cat([told, torch.ones_like(told[..., :1])], 2)  # for the layer's bias
    fitted, asked = slice(0, 160), slice(160, None)
    for number, count in enumerate((len(KINDS), len(COLOURS))):
        answers = torch.nn.functional.one_hot(looks[..., number], count).float()
        layer = torch.linalg.lstsq(told[fitted].flatten(0, 1), answers[fitted].flatten(0, 1))
        right = (told[asked] @ layer.solution).argmax(2) == looks[asked, :, number]
        assert right.float().mean(0).min() > 0.9, "of the first, the second and the third thing"

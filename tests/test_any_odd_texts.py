"""Texts that a hasty reader would take for others, or would choke on."""

import copy
import threading

import diffusers
import pytest
import torch
import transformers
from pipeline_cases import KEYS
from pipelines import FISH, FROG, RED, build, run

import unet_explained as ux

START = " ".join([RED] * 6)  # 48 tokens


def rows_of(rec, number: int = 0, step: int = 0) -> list[tuple]:
    rows = rec.runs[number].steps[step].batch
    return [(row.text and row.text.text, row.role) for row in rows]


def ids(pipe, text: str) -> torch.Tensor:
    return pipe.tokenizer(text, padding="max_length", return_tensors="pt").input_ids


@torch.no_grad()
def forward(pipe, context: torch.Tensor) -> None:
    pipe.unet(torch.ones(len(context), 4, 8, 8), 7, context)


@torch.no_grad()
def test_a_text_that_only_begins_like_another_is_not_taken_for_it():
    pipe, options = build("sd")
    embeds, negative = pipe.encode_prompt(f"{START} and a green frog", "cpu", 1, True)
    with ux.record(pipe, halves="both") as rec:
        pipe.encode_prompt(f"{START} and a red fish", "cpu", 1, True)
        run(pipe, None, prompt_embeds=embeds, negative_prompt_embeds=negative, **options)
    assert rows_of(rec) == [("", "unconditional"), (None, "conditional")]
    assert any("name(" in sentence for sentence in rec.unknown)


@torch.no_grad()
def test_a_blend_with_a_text_that_begins_alike_is_unknown():
    pipe, _ = build("sd")
    other = pipe.text_encoder(ids(pipe, f"{START} and a green frog"))[0]
    with ux.record(pipe) as rec:
        own = pipe.text_encoder(ids(pipe, f"{START} and a red fish"))[0]
        forward(pipe, (own + other) / 2)
        forward(pipe, own)
    assert [rows_of(rec, step=step)[0][0] for step in (0, 1)] == [
        None,
        f"{START} and a red fish",
    ]


@torch.no_grad()
@pytest.mark.parametrize("first", [0, 1])
def test_a_state_that_is_normed_later_is_of_the_text_that_it_was_made_of(first):
    pipe, _ = build("sd")
    modules = dict(pipe.text_encoder.named_modules())
    norm = next(part for name, part in modules.items() if name.endswith("final_layer_norm"))
    with ux.record(pipe) as rec:
        states = [
            pipe.text_encoder(ids(pipe, text), output_hidden_states=True).hidden_states[-2]
            for text in (RED, FISH)
        ]
        forward(pipe, norm(states[first]))
    assert rows_of(rec) == [((RED, FISH)[first], None)]


def test_a_prompt_written_in_another_way_than_before_is_the_calls_own():
    pipe, options = build("sd")
    with ux.record(pipe, halves="both") as rec:
        for prompt in (RED, RED.upper(), RED):
            run(pipe, prompt, **options)
    assert [one.finished for one in rec.runs] == [True] * 3
    said = [rows_of(rec, number)[1] for number in range(3)]
    assert said == [(text, "conditional") for text in (RED, RED.upper(), RED)]


def test_a_negative_prompt_that_is_the_prompt_in_upper_case_is_ambiguous():
    pipe, options = build("sd")
    with ux.record(pipe, halves="both") as rec:
        run(pipe, RED, negative_prompt=RED.upper(), **options)
    assert [role for _, role in rows_of(rec)] == [None, None]
    assert rec.unknown


def test_embeddings_written_over_in_inference_mode_are_read_again():
    pipe, options = build("sd")

    def swap(pipe, step, timestep, values):
        values["prompt_embeds"][:] = values["prompt_embeds"].flip(0)
        return values

    changing = dict(callback_on_step_end=swap, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    with torch.inference_mode(), ux.record(pipe, halves="both") as rec:
        run(pipe, RED, negative_prompt=FROG, **changing, **options)
    assert rows_of(rec) == [(FROG, "unconditional"), (RED, "conditional")]
    assert rows_of(rec, step=1) == [(RED, "conditional"), (FROG, "unconditional")]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_embeddings_that_were_cast_and_cast_back_are_known(dtype):
    pipe, _ = build("sd")
    with ux.record(pipe) as rec:
        forward(pipe, pipe.text_encoder(ids(pipe, RED))[0].to(dtype).float())
    assert rows_of(rec)[0][0] == RED


@torch.no_grad()
def test_naming_embeddings_between_two_steps_names_the_later_ones_too():
    pipe, options = build("sd")
    embeds, negative = pipe.encode_prompt(RED, "cpu", 1, True)

    def name(pipe, step, timestep, values):
        if step == 0:
            rec.name(embeds, RED)
        return values

    given = dict(prompt_embeds=embeds, negative_prompt_embeds=negative)
    with ux.record(pipe) as rec:
        run(pipe, None, callback_on_step_end=name, **given, **options)
    assert [rows_of(rec, step=step)[1][0] for step in (0, 1)] == [RED, RED]


def test_embeddings_made_within_the_with_are_of_the_call_that_they_are_given():
    pipe, options = build("sd")
    with ux.record(pipe) as rec:
        embeds, negative = pipe.encode_prompt(RED, "cpu", 1, True)
        run(pipe, None, prompt_embeds=embeds, negative_prompt_embeds=negative, **options)
    assert [one.finished for one in rec.runs] == [True]


class Words(transformers.PreTrainedTokenizer):
    """One token a word, in Python: such a tokenizer does not say where its tokens stand."""

    def __init__(self) -> None:
        self.words = ["<s>", "</s>", "<pad>", "<unk>", *RED.split(), *FROG.split()]
        special = dict(zip(("bos_token", "eos_token", "pad_token", "unk_token"), self.words))
        super().__init__(model_max_length=77, **special)

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    def get_vocab(self) -> dict[str, int]:
        return {word: index for index, word in reversed([*enumerate(self.words)])}

    def _tokenize(self, text: str) -> list[str]:
        return text.lower().split()

    def _convert_token_to_id(self, token: str) -> int:
        return self.get_vocab().get(token, 3)

    def _convert_id_to_token(self, index: int) -> str:
        return self.words[index]

    def build_inputs_with_special_tokens(self, first, second=None):
        return [0, *first, 1]


def test_a_tokenizer_in_python():
    pipe, options = build("sd")
    pipe.tokenizer = Words()
    with ux.record(pipe) as rec:
        run(pipe, RED.title(), **options)
    assert rows_of(rec)[1] == (RED.title(), "conditional")
    text = rec.text()
    for word, places in KEYS[RED].items():
        assert text.find(word) == places


def test_threads_that_encode_and_denoise_at_the_same_time():
    pipe, options = build("sd")
    with ux.record(pipe, attention=None) as rec:
        stop, failed = threading.Event(), []

        def encode():
            number = 0
            while not stop.is_set():
                number += 1
                pipe.encode_prompt(f"a red circle {number}", "cpu", 1, False)

        def denoise():
            parts = pipe.components | {"scheduler": copy.deepcopy(pipe.scheduler)}
            other = diffusers.StableDiffusionPipeline(**parts)
            other.set_progress_bar_config(disable=True)
            try:
                for _ in range(5):
                    run(other, FISH, **options)
            except RuntimeError as error:
                failed.append(error)

        encoding, denoising = threading.Thread(target=encode), threading.Thread(target=denoise)
        encoding.start(), denoising.start()
        denoising.join()
        stop.set()
        encoding.join()
    assert not failed
    assert {rows_of(rec, number)[1][0] for number in range(len(rec.runs))} == {FISH}


def test_many_texts_take_little_room():
    pipe, options = build("xl")
    with ux.record(pipe, attention=None) as rec:
        for number in range(20):
            pipe.encode_prompt(f"a red circle {number}", device="cpu")
        run(pipe, "a red circle 3", **options)
    assert rows_of(rec)[1] == ("a red circle 3", "conditional")
    kept = {id(one): one for one in rec._reader.readings.kept.values()}
    size = sum(one.prints.untyped_storage().nbytes() for one in kept.values())
    assert size < 21 * 2 * 5 * 3 * 77 * 8 * 1.01  # texts, encoders, states, dtypes, places, bytes

"""Prompts become the ids that TRL's trainers would make of them."""

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast
from trl import GRPOTrainer

from maxrl.errors import InputError
from maxrl.models import build_tokenizer, decode_completion, encode_prompt

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "add", "1", "12"]
CHAT = [{"role": "system", "content": "add"}, {"role": "user", "content": "1 12"}]


@pytest.fixture
def words() -> PreTrainedTokenizerFast:
    tokenizer = build_tokenizer(WORDS)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def as_trl_does(tokenizer: PreTrainedTokenizerFast, prompts: list[Any]) -> list[list[int]]:
    """TRL's own code, on no more of a trainer than it looks at."""
    trainer = SimpleNamespace(
        processing_class=tokenizer,
        chat_template=None,
        chat_template_kwargs={},
        tools=None,
        environment_factories=None,
        _is_vlm=False,
    )
    ids, _, _ = GRPOTrainer._tokenize_prompts(trainer, prompts)  # pyright: ignore[reportArgumentType]
    return ids


def test_plain_text(words: PreTrainedTokenizerFast) -> None:
    ids = encode_prompt(words, "add 1 12")
    assert ids == [1, 8, 9, 10]  # <bos> and the 5th, 6th and 7th word after four special tokens
    assert [ids] == as_trl_does(words, ["add 1 12"])


def test_a_chat_ends_with_the_opening_of_the_answer(words: PreTrainedTokenizerFast) -> None:
    ids = encode_prompt(words, CHAT)
    # <|system|> add <|end|> <|user|> 1 12 <|end|> <|assistant|>, and no <bos>: a template brings its own
    assert ids == [4, 8, 7, 5, 9, 10, 7, 6]
    assert [ids] == as_trl_does(words, [CHAT])
    assert ids == list(words.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"])


def test_a_chat_needs_a_template(words: PreTrainedTokenizerFast) -> None:
    words.chat_template = None
    with pytest.raises(InputError, match="the tokenizer has no chat template; use an instruct model, or"):
        encode_prompt(words, CHAT)
    assert encode_prompt(words, "add") == [1, 8]


def test_completions_are_read_without_special_tokens(words: PreTrainedTokenizerFast) -> None:
    assert decode_completion(words, (9, 10, 2)) == "1 12"
    assert decode_completion(words, (2,)) == ""
    assert decode_completion(words, ()) == ""

"""Which back-end serves a model."""

import logging

import pytest
import torch
from tests.engine.policies import build

from maxrl.engine import SamplingParams, SharedPrefixGenerator, TransformersGenerator, make_generator
from maxrl.errors import InputError

PARAMS = SamplingParams(max_completion_length=4, num_generations=3)


@pytest.mark.parametrize(
    ("backend", "windowed", "kind"),
    [
        ("auto", False, SharedPrefixGenerator),
        ("auto", True, TransformersGenerator),
        ("engine", False, SharedPrefixGenerator),
        ("transformers", False, TransformersGenerator),
        ("transformers", True, TransformersGenerator),
    ],
)
def test_the_back_end(backend: str, windowed: bool, kind: type) -> None:
    model = build("mistral", sliding_window=4 if windowed else None)
    made = make_generator(model, stop_ids=[2], pad_id=0, backend=backend)  # pyright: ignore[reportArgumentType]
    assert type(made) is kind
    [group] = made.generate([[1, 4]], PARAMS, seeds=[0])
    assert len(group) == 3


def test_a_fallback_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="maxrl"):
        make_generator(build("mistral", sliding_window=4), stop_ids=[2], pad_id=0)
    assert caplog.messages == [
        "completions come from transformers' generate, not from the shared-prefix engine: "
        "its attention is limited to a sliding window of 4 tokens"
    ]


def test_dropout_of_attention_does_not_matter_in_sampling() -> None:
    model = build("qwen2", attention_dropout=0.1)
    assert isinstance(make_generator(model, stop_ids=[2], pad_id=0), SharedPrefixGenerator)


def test_auto_is_the_default() -> None:
    assert isinstance(make_generator(build("qwen2"), stop_ids=[2], pad_id=0), SharedPrefixGenerator)


def test_what_was_asked_for_reaches_the_back_end() -> None:
    model = build("qwen2")
    engine = make_generator(model, stop_ids=[2, 5, 2], pad_id=0, backend="engine", dtype=torch.bfloat16)
    assert isinstance(engine, SharedPrefixGenerator)
    assert (engine.model, engine.stop_ids, engine.dtype) == (model, (2, 5), torch.bfloat16)
    plain = make_generator(model, stop_ids=[2, 5, 2], pad_id=7, backend="transformers")
    assert isinstance(plain, TransformersGenerator)
    assert (plain.model, plain.stop_ids, plain.pad_id) == (model, (2, 5), 7)


def test_transformers_is_not_put_to_the_trial() -> None:
    model = build("qwen2")
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    make_generator(model, stop_ids=[2], pad_id=0, backend="transformers")
    assert calls == []


def test_an_unknown_back_end_is_refused() -> None:
    with pytest.raises(InputError, match="unknown generation back-end 'engin'; did you mean 'engine'"):
        make_generator(build("qwen2"), stop_ids=[2], pad_id=0, backend="engin")  # pyright: ignore[reportArgumentType]


def test_the_engine_for_a_model_that_it_cannot_serve_is_refused() -> None:
    model = build("mistral", sliding_window=4)
    says = "the engine cannot serve this model: its attention is limited to .* 4 tokens; choose transformers"
    with pytest.raises(InputError, match=says):
        make_generator(model, stop_ids=[2], pad_id=0, backend="engine")


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_a_stop_token_is_needed(backend: str) -> None:
    with pytest.raises(InputError, match="at least one stop token id"):
        make_generator(build("qwen2"), stop_ids=[], pad_id=0, backend=backend)  # pyright: ignore[reportArgumentType]

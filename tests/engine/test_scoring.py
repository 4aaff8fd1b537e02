"""Log-probabilities over the packed layout are those of plain forwards, and so are their gradients."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.policies import (
    ARCHITECTURES,
    RAGGED,
    VOCABULARY,
    build,
    dense_logprobs,
    dense_rows,
    distance,
    gradients,
    groups_of,
    in_double,
    packed_gradients,
    weighted,
)
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from maxrl.engine import PromptGroup, cpu_attention, engine_attention, selection, split_groups, token_logprobs
from maxrl.engine.cpu_attention import SMALL_TRIANGLE
from maxrl.engine.packed_attention import Kernel
from maxrl.errors import InputError

LONG = groups_of((6, (SMALL_TRIANGLE + 40, 3, 0, SMALL_TRIANGLE + 2)), (6, (2, 2, 1, 5)), (2, (7,)))
"""Completions on both sides of the length from which `blocks` goes another way."""


def assert_rows(actual: Tensor, expected: Sequence[Tensor], tolerance: float) -> None:
    """One expected row in each line, and zero behind it."""
    assert actual.shape == (len(expected), max(len(row) for row in expected))
    for line, row in zip(actual, expected, strict=True):
        torch.testing.assert_close(line[: len(row)], row, atol=tolerance, rtol=0)
        assert not line[len(row) :].any()


# --- equality ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["dense", "blocks", None])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equal_to_dense_forwards(name: str, kernel: Kernel | None) -> None:
    model = build(name)
    dense = dense_logprobs(model, RAGGED)
    with engine_attention(model):
        scores = token_logprobs(model, RAGGED, kernel=kernel)
    assert scores.entropies is None
    assert_rows(scores.logprobs, dense, 1e-5)
    expected = gradients(model, weighted(dense))
    assert distance(packed_gradients(model, RAGGED, kernel=kernel), expected) < 1e-5


@pytest.mark.parametrize("kernel", ["dense", "blocks"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equal_to_dense_forwards_in_double_precision(name: str, kernel: Kernel) -> None:
    # Only rounding is left to differ: mistakes too small for the looser bounds show here.
    model = in_double(build(name))
    dense = dense_logprobs(model, RAGGED)
    with engine_attention(model):
        assert_rows(token_logprobs(model, RAGGED, kernel=kernel).logprobs, dense, 1e-11)
    expected = gradients(model, weighted(dense))
    assert distance(packed_gradients(model, RAGGED, kernel=kernel), expected) < 1e-10


@pytest.mark.parametrize("scores", [1, 20, 150])
def test_equal_however_small_the_pieces(monkeypatch: pytest.MonkeyPatch, scores: int) -> None:
    """Three rows of logits at a time, and of attention scores one row, part of a matrix, or several matrices."""
    monkeypatch.setattr(selection, "BLOCK", 3 * VOCABULARY)
    monkeypatch.setattr(cpu_attention, "PIECE", scores)
    model = in_double(build("qwen2"))
    dense = dense_logprobs(model, RAGGED)
    with engine_attention(model):
        assert_rows(token_logprobs(model, RAGGED).logprobs, dense, 1e-11)
    assert distance(packed_gradients(model, RAGGED), gradients(model, weighted(dense))) < 1e-10


def test_long_completions() -> None:
    model = in_double(build("qwen2"))
    dense = dense_logprobs(model, LONG)
    with engine_attention(model):
        assert_rows(token_logprobs(model, LONG).logprobs, dense, 1e-11)
    assert distance(packed_gradients(model, LONG), gradients(model, weighted(dense))) < 1e-10


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # a CPU's has no other form
@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
@torch.no_grad()
def test_flex_attention_gives_the_same(name: str) -> None:
    # Without gradient: FlexAttention has a backward on GPUs only.
    model = build(name)
    dense = dense_logprobs(model, RAGGED)
    with engine_attention(model):
        assert_rows(token_logprobs(model, RAGGED, kernel="flex").logprobs, dense, 1e-5)


@torch.no_grad()
def test_the_kernel_asked_for_is_taken() -> None:
    # Two ways to the same numbers do not round alike.
    model = build("qwen2")
    with engine_attention(model):
        dense, blocks = (
            token_logprobs(model, RAGGED, kernel=kernel).logprobs for kernel in ("dense", "blocks")
        )
    assert not torch.equal(dense, blocks)


@pytest.mark.parametrize("temperature", [0.6, 1.7])
def test_temperature_divides_the_logits(temperature: float) -> None:
    model = build("qwen2")
    dense = dense_logprobs(model, RAGGED, temperature)
    with engine_attention(model):
        assert_rows(token_logprobs(model, RAGGED, temperature=temperature).logprobs, dense, 1e-5)
    expected = gradients(model, weighted(dense))
    assert distance(packed_gradients(model, RAGGED, temperature=temperature), expected) < 1e-5


@pytest.mark.parametrize("groups", [groups_of((3, (0,)), (2, (0, 0))), groups_of((3, ()))])
def test_without_a_completion_token_there_is_nothing(groups: list[PromptGroup]) -> None:
    model = build("qwen2")
    with engine_attention(model):
        scores = token_logprobs(model, groups, entropies=True)
    rows = sum(len(group.completions) for group in groups)
    assert scores.logprobs.shape == (rows, 0)
    assert scores.entropies is not None
    assert scores.entropies.shape == (rows, 0)


def test_rows_may_be_wider_than_the_longest_completion() -> None:
    # Every chunk of a batch as wide as the whole.
    model = build("qwen2")
    with engine_attention(model), torch.no_grad():
        narrow = token_logprobs(model, RAGGED, entropies=True)
        wide = token_logprobs(model, RAGGED, entropies=True, width=12)
    for one, other in ((narrow.logprobs, wide.logprobs), (narrow.entropies, wide.entropies)):
        assert one is not None
        assert other is not None
        assert other.shape == (len(one), 12)
        assert torch.equal(other[:, : one.shape[1]], one)
        assert not other[:, one.shape[1] :].any()


def test_rows_narrower_than_a_completion_are_refused() -> None:
    model = build("qwen2")
    with (
        engine_attention(model),
        pytest.raises(
            InputError, match="width must be at least 7, the longest completion's length, but is 6"
        ),
    ):
        token_logprobs(model, RAGGED, width=6)


# --- entropies -----------------------------------------------------------------------------------------------------


def dense_entropies(rows: Sequence[Tensor]) -> list[Tensor]:
    return [-(row.exp() * row).sum(-1) for row in rows]


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_entropies(temperature: float) -> None:
    model = build("qwen3")
    dense = dense_entropies(dense_rows(model, RAGGED, temperature))
    with engine_attention(model):
        plain = token_logprobs(model, RAGGED, temperature=temperature)
        scores = token_logprobs(model, RAGGED, temperature=temperature, entropies=True)
    assert scores.entropies is not None
    assert_rows(scores.entropies, dense, 1e-5)
    assert not scores.entropies.requires_grad
    assert torch.equal(scores.logprobs, plain.logprobs)


def test_entropies_with_gradient() -> None:
    model = in_double(build("qwen3"))
    expected = gradients(model, weighted(dense_entropies(dense_rows(model, RAGGED))))
    with engine_attention(model):
        entropies = token_logprobs(model, RAGGED, entropies=True, entropy_gradient=True).entropies
        assert entropies is not None
        assert distance(gradients(model, weighted(list(entropies))), expected) < 1e-10


def test_no_gradient_where_none_is_kept() -> None:
    model = build("qwen2")
    with engine_attention(model), torch.no_grad():
        scores = token_logprobs(model, RAGGED, entropies=True, entropy_gradient=True)
    assert scores.entropies is not None
    assert not scores.entropies.requires_grad
    assert not scores.logprobs.requires_grad


# --- in chunks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 9, 14, 30, 1000])
def test_gradients_of_chunks_sum_to_those_of_one_pass(budget: int) -> None:
    model = in_double(build("qwen2"))
    rows: list[Tensor] = []
    chunks = list(split_groups(RAGGED, budget))
    assert (len(chunks) == 1) is (budget == 1000)
    with engine_attention(model):
        whole = token_logprobs(model, RAGGED).logprobs
        for chunk in chunks:
            rows += token_logprobs(model, chunk, width=whole.shape[1]).logprobs
        torch.testing.assert_close(torch.stack(rows), whole, atol=1e-11, rtol=0)
        # One backward per chunk is what the trainer does: a sum of losses has the sum of their gradients.
        in_parts = gradients(model, weighted(rows))
        assert distance(in_parts, gradients(model, weighted(list(whole)))) < 1e-10


# --- as models are wrapped for training ----------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant: bool) -> None:
    model: Any = build("qwen2")
    expected = packed_gradients(model, RAGGED)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()  # what reentrant checkpointing needs
    model.train()
    runs: list[int] = []
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.register_forward_hook(lambda *_, number=number: runs.append(number))
    with engine_attention(model):
        weighted(list(token_logprobs(model, RAGGED).logprobs)).backward()
    assert sorted(runs) == [0, 0, 1, 1]  # forward, and again in the backward
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert distance(found, expected) < 1e-6


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_distributed_data_parallel() -> None:
    model = build("qwen2-lora")
    expected = packed_gradients(model, RAGGED)
    wrapped = DistributedDataParallel(model)
    with engine_attention(wrapped):
        weighted(list(token_logprobs(wrapped, RAGGED).logprobs)).backward()
    found = {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    assert distance(found, expected) < 1e-6


@pytest.mark.parametrize("groups", [RAGGED, LONG], ids=["short", "long"])
def test_autocast_is_roughly_single_precision(groups: list[PromptGroup]) -> None:
    # bfloat16 keeps eight bits: weights this large leave a few hundredths.
    model = build("qwen2")
    expected = packed_gradients(model, groups)
    with engine_attention(model):
        exact = token_logprobs(model, groups, entropies=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = token_logprobs(model, groups, entropies=True)
        found = gradients(model, weighted(list(rough.logprobs)))
    assert rough.logprobs.dtype == torch.float32
    error = (rough.logprobs - exact.logprobs).abs()
    assert 0 < error.mean() < 0.03
    assert rough.entropies is not None
    assert exact.entropies is not None
    assert (rough.entropies - exact.entropies).abs().mean() < 0.03
    assert distance(found, expected) < 0.1


def test_a_model_in_bfloat16() -> None:
    model: Any = build("qwen2")
    with torch.no_grad():
        exact = dense_logprobs(model, RAGGED)
        model.to(torch.bfloat16)
        with engine_attention(model):
            rough = token_logprobs(model, RAGGED).logprobs
    assert rough.dtype == torch.float32
    assert (
        torch.stack(
            [(line[: len(row)] - row).abs().sum() for line, row in zip(rough, exact, strict=True)]
        ).sum()
        < 2
    )

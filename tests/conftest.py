"""What the tests share: the smallest policy that can be trained, on a task that it can sometimes solve."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from maxrl.models import TinyModel, build_tiny, build_tokenizer
from maxrl.tasks import SubsetSum

TASK = SubsetSum(num_elements=3, max_value=4, prompt_format="compact")
SHAPE = TinyModel(tiny_layers=1, tiny_width=16, tiny_heads=2, tiny_kv_heads=1, tiny_feed_forward=32)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # several test processes share the cores


@pytest.fixture
def task() -> SubsetSum:
    """Three numbers up to four: a random model solves it now and then."""
    return TASK


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Words of the task."""
    vocabulary = TASK.vocabulary()
    assert vocabulary is not None
    return build_tokenizer(vocabulary.words)


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A random policy, the same in every test."""
    return build_tiny(tokenizer, SHAPE, seed=0)


@pytest.fixture
def policy_folder(tmp_path: Path, model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The random policy on disk."""
    folder = tmp_path / "policy"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

"""Warm starts are made once, from everything that determines them, and only count when they solve the task."""

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from maxrl.errors import InputError, MaxRLError
from maxrl.models import TinyModel, build_tiny, encode_prompt, load_policy, load_tokenizer
from maxrl.tasks import Example, Split, SubsetSum, Vocabulary, get_task
from maxrl.training import warm_starts
from maxrl.training.warm_starts import CHECK_EVERY, WarmStart, cache_folder, warm_start

SHAPE = TinyModel(tiny_layers=1, tiny_width=32, tiny_heads=2, tiny_kv_heads=1, tiny_feed_forward=64)
EASY = WarmStart(warm_start_pass_rate=0.2, warm_start_max_steps=150, warm_start_batch_size=32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_CACHE", str(tmp_path))
    return tmp_path / "warm-starts"


def test_it_reaches_the_stated_pass_rate_once_and_for_all(task: SubsetSum, cache: Path) -> None:
    rates: list[tuple[int, float]] = []
    folder = warm_start(
        task, SHAPE, EASY, max_completion_length=5, progress=lambda step, rate: rates.append((step, rate))
    )
    record = json.loads((folder / "warm_start.json").read_text())
    assert record["pass_rate"] >= 0.2
    assert rates[-1] == (record["steps"], record["pass_rate"])
    assert [step for step, _ in rates] == list(range(CHECK_EVERY, record["steps"] + 1, CHECK_EVERY))
    assert all(rate < 0.2 for _, rate in rates[:-1]), "it stops as soon as the rate is reached"
    weights = [p.detach() for p in load_policy(str(folder)).parameters()]
    assert load_tokenizer(str(folder)).decode([4, 5], skip_special_tokens=True) == "1 2"

    rates.clear()
    assert warm_start(task, SHAPE, EASY, max_completion_length=5, progress=rates.append) == folder
    assert rates == [], "the second time it comes from the cache"

    # Nothing but the cache's key decides the weights: made again elsewhere, they are the same.
    folder.rename(cache / "set-aside")
    again = warm_start(task, SHAPE, EASY, max_completion_length=5)
    for old, new in zip(weights, load_policy(str(again)).parameters(), strict=True):
        assert torch.equal(old, new)
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == [], (
        "no partial folders stay"
    )


def test_its_problems_are_none_of_those_that_are_trained_on_or_reported(
    task: SubsetSum, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs and evaluations take seeds that people type; warm starts draw from the far end."""
    streams: set[tuple[str, int]] = set()
    original = SubsetSum.examples

    def spy(self: SubsetSum, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        streams.add((split, seed))
        return original(self, split, count, seed=seed, start=start)

    monkeypatch.setattr(SubsetSum, "examples", spy)
    warm_start(task, SHAPE, replace(EASY, warm_start_seed=3), max_completion_length=5)
    assert {split for split, _ in streams} == {"train", "eval"}
    assert min(seed for _, seed in streams) > 2**30


def test_other_settings_are_other_warm_starts(task: SubsetSum, monkeypatch: pytest.MonkeyPatch) -> None:
    class Made(Exception):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise Made

    folder = warm_start(task, SHAPE, EASY, max_completion_length=5)
    monkeypatch.setattr("maxrl.training.warm_starts.SFTTrainer", refuse)
    assert warm_start(task, SHAPE, EASY, max_completion_length=5) == folder
    for other_task, shape, settings, length in [
        (replace(task, max_value=5), SHAPE, EASY, 5),
        (task, replace(SHAPE, tiny_layers=2), EASY, 5),
        (task, SHAPE, replace(EASY, warm_start_seed=1), 5),
        (task, SHAPE, EASY, 6),
    ]:
        with pytest.raises(Made):
            warm_start(other_task, shape, settings, max_completion_length=length)


def test_a_rate_that_is_not_reached_is_a_failure_not_a_cache_entry(task: SubsetSum, cache: Path) -> None:
    settings = WarmStart(warm_start_pass_rate=0.99, warm_start_max_steps=2, warm_start_batch_size=2)
    with pytest.raises(MaxRLError, match=r"solved 0\.\d+ of the problems after 2 steps, less than .*0.99"):
        warm_start(task, SHAPE, settings, max_completion_length=5)
    assert list(cache.iterdir()) == []


def test_a_task_without_words_gets_a_model_of_bytes(task: SubsetSum) -> None:
    settings = WarmStart(warm_start_pass_rate=None, warm_start_max_steps=1, warm_start_batch_size=2)
    folder = warm_start(replace(task, prompt_format="chat"), SHAPE, settings, max_completion_length=5)
    tokenizer = load_tokenizer(str(folder))
    assert len(tokenizer) == 4 + 256
    prompt = encode_prompt(tokenizer, [{"role": "user", "content": "1 ≠ 2"}])
    assert tokenizer.decode(prompt) == "<bos>user: 1 ≠ 2\nassistant: "
    assert len(prompt) == 1 + len("user: 1 ≠ 2\nassistant: ".encode())


def test_all_steps_are_made_where_no_rate_is_asked_for(task: SubsetSum) -> None:
    settings = WarmStart(warm_start_pass_rate=None, warm_start_max_steps=3, warm_start_batch_size=2)
    measured: list[int] = []
    folder = warm_start(
        task, SHAPE, settings, max_completion_length=5, progress=lambda step, _: measured.append(step)
    )
    assert measured == [3], "nothing depends on a measurement before the end"
    record = json.loads((folder / "warm_start.json").read_text())
    assert record["steps"] == 3
    assert 0 <= record["pass_rate"] <= 1


@dataclass(frozen=True, kw_only=True)
class Mute(SubsetSum):
    """Cannot show how its problems are solved."""

    def can_demonstrate(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("of", "steps"), [(None, 5), (Mute(num_elements=4, max_value=9), 5), (SubsetSum(num_elements=4), 0)]
)
def test_without_demonstrations_the_weights_stay_random(of: SubsetSum | None, steps: int) -> None:
    settings = WarmStart(warm_start_max_steps=steps)
    folder = warm_start(of, SHAPE, settings, max_completion_length=5)
    record = json.loads((folder / "warm_start.json").read_text())
    assert (record["steps"], record["pass_rate"]) == (0, None)
    trained, fresh = load_policy(str(folder)), build_tiny(load_tokenizer(str(folder)), SHAPE)
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=0, atol=0)


@dataclass(frozen=True, kw_only=True)
class Stopping(SubsetSum):
    """Whose completions end with the word `:`."""

    def vocabulary(self) -> Vocabulary | None:
        return Vocabulary(words=super().vocabulary().words, stop=(":",))


def test_words_that_end_a_completion_are_kept_with_the_model() -> None:
    task = Stopping(num_elements=4, max_value=9, prompt_format="compact")
    folder = warm_start(task, SHAPE, WarmStart(warm_start_max_steps=0), max_completion_length=5)
    colon = load_tokenizer(str(folder)).convert_tokens_to_ids(":")
    assert load_policy(str(folder)).generation_config.eos_token_id == [2, colon]


def test_a_task_of_ones_own_that_was_changed_is_trained_anew(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = """
from dataclasses import dataclass
from maxrl.tasks import SubsetSum

@dataclass(frozen=True, kw_only=True)
class Mine(SubsetSum):
    name = "mine"
"""
    settings = WarmStart(warm_start_max_steps=0)
    folders = []
    for body in (text, text, text + "# changed\n"):
        file.write_text(body)
        folders.append(warm_start(get_task(str(file)), SHAPE, settings, max_completion_length=5))
    assert folders[0] == folders[1] != folders[2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"warm_start_pass_rate": 0.0},
        {"warm_start_pass_rate": 1.0},
        {"warm_start_max_steps": -1},
        {"warm_start_adam_beta2": 1.0},
        {"warm_start_weight_decay": -0.1},
        {"warm_start_batch_size": 0},
        {"warm_start_learning_rate": 0.0},
        {"warm_start_check_problems": 0},
    ],
)
def test_settings_out_of_range_are_named(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        WarmStart(**wrong)  # pyright: ignore[reportArgumentType]


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MAXRL_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "maxrl"


def test_what_follows_may_have_another_precision(task: SubsetSum) -> None:
    """accelerate keeps the precision of the first trainer of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    settings = WarmStart(warm_start_pass_rate=None, warm_start_max_steps=1, warm_start_batch_size=2)
    warm_start(task, SHAPE, settings, max_completion_length=5)
    assert Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16"
    AcceleratorState._reset_state(reset_partial_state=True)


def test_who_wants_the_same_one_at_the_same_time_waits_for_it(
    task: SubsetSum, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def train(*_: Any) -> None:
        trained.append(threading.get_ident())
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(warm_starts, "_train_on_demonstrations", train)
    settings = WarmStart(warm_start_pass_rate=None)

    def make() -> Path:
        return warm_start(task, SHAPE, settings, max_completion_length=5)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(make)
        assert begun.wait(60)
        (partial,) = cache.glob(".*")
        second = pool.submit(make)
        time.sleep(0.3)  # in which it would have begun, too
        go_on.set()
        assert first.result(60) == second.result(60)
    assert len(trained) == 1
    # What a killed process left half made is in nobody's way, and does not stay.
    shutil.rmtree(first.result())
    partial.with_name(partial.name.rsplit("-", 1)[0] + "-999999").mkdir()
    make()
    assert [path.name for path in cache.iterdir()] == [first.result().name]
    assert len(trained) == 2

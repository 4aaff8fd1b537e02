"""What several tasks ask for, and what a batch is made of."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.training.settings import settings

from maxrl.errors import InputError
from maxrl.objectives import GRPO, CurveRL, MaxRL
from maxrl.training import MaxRLConfig
from maxrl.training.task_settings import Composition, TaskSettings, check_rows, cycle_rows


def config(folder: Path, tasks: Any, **fields: Any) -> MaxRLConfig:
    return MaxRLConfig(**settings(folder, task_settings=tasks, **fields))


def of(**sizes: tuple[int, int]) -> dict[str, TaskSettings]:
    """Shares and numbers of rollouts."""
    return {
        task: TaskSettings(share=share, num_generations=n, estimator=None, correctness_threshold=None)
        for task, (share, n) in sizes.items()
    }


def test_what_a_task_does_not_set_is_the_runs(tmp_path: Path) -> None:
    tasks = {
        "a": {"share": 0.5, "num_generations": 2, "advantage_estimator": "grpo"},
        "b": {"advantage_estimator_kwargs": {"order": 3}},
        "c": {"correctness_threshold": None},
        "d": {"advantage_estimator": "curve_rl", "correctness_threshold": 2},
    }
    args = config(tmp_path, tasks, correctness_threshold=0.5, per_device_train_batch_size=26)
    assert args.tasks() == {
        "a": TaskSettings(share=1, num_generations=2, estimator=GRPO(), correctness_threshold=0.5),
        "b": TaskSettings(share=2, num_generations=4, estimator=MaxRL(order=3), correctness_threshold=0.5),
        "c": TaskSettings(share=2, num_generations=4, estimator=None, correctness_threshold=None),
        "d": TaskSettings(share=2, num_generations=4, estimator=CurveRL(), correctness_threshold=2.0),
    }
    assert (args.num_generations, args.num_generations_eval) == (4, None), "TRL saw others"
    assert args.groups_per_generation == 7
    assert config(tmp_path, None).tasks() == {}
    assert config(tmp_path, None).groups_per_generation == 2
    options_alone = config(
        tmp_path, {"a": {"advantage_estimator_kwargs": {"ddof": 0}}}, advantage_estimator="grpo"
    )
    assert options_alone.tasks()["a"].estimator == GRPO(ddof=0)
    as_words = config(tmp_path, '{"a": {"num_generations": 8}}')
    assert as_words.tasks()["a"].num_generations == 8


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tasks": "a"}, "task_settings must be a JSON object"),
        ({"tasks": ["a"]}, "task_settings must be a mapping"),
        ({"tasks": {"a": 8}}, "task_settings of 'a' must be a mapping"),
        ({"tasks": {"a": {"num_generation": 8}}}, "'num_generation'; did you mean 'num_generations'?"),
        ({"tasks": {"a": {"num_generations": 1}}}, "num_generations of task a must be .* at least 2, but is 1"),
        ({"tasks": {"a": {"num_generations": 4.0}}}, "num_generations of task a must be a whole number"),
        ({"tasks": {"a": {"num_generations": True}}}, "num_generations of task a must be a whole number"),
        ({"tasks": {"a": {"num_generations": None}}}, "num_generations of task a must be a whole number"),
        ({"tasks": {"a": {"share": 0}}}, "share of task a must be a number above 0"),
        ({"tasks": {"a": {"correctness_threshold": "high"}}}, "correctness_threshold of task a must be a number"),
        ({"tasks": {"a": {"correctness_threshold": float("nan")}}}, "correctness_threshold of task a"),
        ({"tasks": {"a": {"correctness_threshold": True}}}, "correctness_threshold of task a"),
        ({"tasks": {"a": {"advantage_estimator": "gppo"}}}, "task a: .*did you mean 'grpo'"),
        ({"tasks": {"a": {"advantage_estimator": MaxRL()}}}, "advantage_estimator of task a must be a name"),
        ({"tasks": {"a": {"advantage_estimator_kwargs": "order"}}}, "_kwargs of task a must be a mapping"),
        ({"tasks": {"a": {"advantage_estimator_kwargs": {"ordre": 1}}}}, "task a: .*did you mean 'order'"),
        ({"tasks": {"a": {"advantage_estimator": "maxrl(order=8)"}}}, "at least 8 rollouts.* but num_generations=4"),
        ({"tasks": {"a": {}}, "advantage_estimator": "maxrl(order=8)"}, "at least 8 rollouts"),
        ({"tasks": {"a": {"advantage_estimator": "grpo"}}, "scale_rewards": "none"}, "contradicts .*'grpo'"),
        ({"tasks": {"a": {}}, "refill_dead_groups": 2}, "refill_dead_groups=2 is not possible with task_settings"),
        ({"tasks": {"a": {"num_generations": 3}}}, "of 8 rollouts cannot hold .*1·3 \\(a\\) = 3: .* to 6 or 9 "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        config(tmp_path, **fields)


def test_the_runs_estimator_need_not_fit_where_no_task_uses_it(tmp_path: Path) -> None:
    tasks = {"a": {"advantage_estimator": "grpo"}}
    assert config(tmp_path, tasks, advantage_estimator="maxrl(order=8)").tasks()["a"].estimator == GRPO()
    wide = {"a": {"num_generations": 8}}
    assert config(tmp_path, wide, advantage_estimator="maxrl(order=8)").tasks()["a"].estimator is None


def test_a_batch_without_common_divisor_is_taken(tmp_path: Path) -> None:
    """Groups of 2 and 5: neither the batch of 7 nor the run's 4 divides the other."""
    tasks = {"a": {"num_generations": 2}, "b": {"num_generations": 5}}
    assert config(tmp_path, tasks, per_device_train_batch_size=7).groups_per_generation == 2
    steps = config(tmp_path, tasks, per_device_train_batch_size=1, gradient_accumulation_steps=7)
    assert steps.groups_per_generation == 2
    whole = config(tmp_path, tasks, per_device_train_batch_size=1, generation_batch_size=14)
    assert whole.groups_per_generation == 4


def test_a_batch_is_cycles_over_the_tasks() -> None:
    composition = Composition(of(a=(2, 4), b=(1, 8)), 32)
    assert composition.tasks == ("a", "a", "b") * 2
    assert composition.layout.sizes == (4, 4, 8) * 2
    assert (composition.common_size, composition.ragged) == (4, True)
    alike = Composition(of(a=(1, 4), b=(3, 4)), 16)
    assert (alike.common_size, alike.ragged, alike.layout.sizes) == (4, False, (4,) * 4)
    assert Composition(of(a=(1, 3), b=(1, 4)), 7).common_size == 1


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(2, 9)), min_size=1, max_size=3),
    st.integers(1, 40),
    st.integers(1, 6),
)
@hypothesis_settings(max_examples=200, deadline=None, derandomize=True)
def test_the_sizes_that_are_named_work(tasks: list[tuple[int, int]], per_device: int, others: int) -> None:
    named = of(**{f"t{number}": own for number, own in enumerate(tasks)})
    try:
        check_rows(named, per_device * others, per_device)
    except InputError as error:
        assert per_device * others % cycle_rows(named)
        sizes = str(error).split("per_device_train_batch_size to ")[1].split(" (")[0].split(" or ")
        for size in map(int, sizes):
            check_rows(named, size * others, size)
        least, most = int(sizes[0]), int(sizes[-1])
        assert most > per_device
        assert len(sizes) == 1 or least < per_device
        for size in range(least + 1, most):
            assert size * others % cycle_rows(named), "one nearer would have done"
    else:
        assert per_device * others % cycle_rows(named) == 0

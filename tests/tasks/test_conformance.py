"""What every task must do. A task added to `TASKS` is tested here without a line being written."""

import dataclasses
import inspect
import json
import os
import random
import subprocess
import sys
import typing

import pytest

from maxrl.errors import InputError
from maxrl.tasks import TASKS, Example, Split, Task, get_task, judge

METHODS = (
    "examples",
    "score",
    "score_many",
    "demonstration",
    "can_demonstrate",
    "vocabulary",
    "size",
    "description",
    "missing",
    "picture",
    "corruptions",
    "self_check",
)


def _variants() -> list[tuple[str, dict[str, str]]]:
    """Each task as it is checked, and once more for every other choice of a field that offers choices."""
    found: list[tuple[str, dict[str, str]]] = []
    for name, cls in TASKS.items():
        found.append((name, {}))
        hints = typing.get_type_hints(cls)
        for parameter in dataclasses.fields(cls):
            if typing.get_origin(hints[parameter.name]) is typing.Literal:
                choices = typing.get_args(hints[parameter.name])
                found += [(name, {parameter.name: c}) for c in choices if c != parameter.default]
    return found


def _label(variant: tuple[str, dict[str, str]]) -> str:
    return "-".join([variant[0], *variant[1].values()])


@pytest.fixture(params=_variants(), ids=_label)
def task(request: pytest.FixtureRequest) -> Task:
    name, parameters = request.param
    try:
        made = get_task(name, **{**TASKS[name].check_parameters, **parameters})
    except InputError as error:
        if name in TOGETHER and parameters:
            pytest.skip(f"this choice alone is refused: {error}")
        raise
    if lacks := made.missing():
        assert not os.environ.get("CI"), lacks
        pytest.skip(lacks)
    return made


TOGETHER = ("code", "reasoning_gym")
"""Tasks of which some choices go only with others; their own tests make them."""

MOST = {"code": 3, "reasoning_gym": 40}
"""Problems per test of tasks each of whose verdicts is a compilation, or slow otherwise."""


def few(task: Task, most: int, split: Split = "train") -> int:
    """`most` problems, or as many as the split has, or as the time allows."""
    return min(most, task.size(split) or most, MOST.get(task.name, most))


def _texts(example: Example) -> list[str]:
    if isinstance(example.prompt, str):
        return [example.prompt]
    return [message["content"] for message in example.prompt]


@pytest.mark.parametrize("name", TASKS)
def test_task_has_the_shape_of_the_contract(name: str) -> None:
    cls = TASKS[name]
    assert cls.name == name
    assert cls.__dataclass_params__.frozen
    for method in METHODS:
        wanted, given = (inspect.signature(getattr(owner, method)) for owner in (Task, cls))
        assert list(given.parameters.values()) == list(wanted.parameters.values()), method


@pytest.mark.parametrize("name", TASKS)
def test_fields_are_keyword_only_with_defaults_and_help(name: str) -> None:
    for parameter in dataclasses.fields(TASKS[name]):
        assert parameter.kw_only
        assert parameter.default is not dataclasses.MISSING, parameter.name
        assert len(parameter.metadata["help"]) > 10, parameter.name


def test_variants_cover_every_choice() -> None:
    assert ("subset_sum", {}) in _variants()
    assert ("subset_sum", {"prompt_format": "compact"}) in _variants()


def test_parameters_cannot_change(task: Task) -> None:
    for parameter in dataclasses.fields(task):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(task, parameter.name, None)


def test_examples_are_json_and_well_formed(task: Task) -> None:
    for example in task.examples("train", 20):
        assert json.loads(json.dumps(example.truth)) == example.truth
        assert json.loads(json.dumps(example.prompt)) == example.prompt
        assert all(_texts(example))
        if not isinstance(example.prompt, str):
            assert all(set(message) == {"role", "content"} for message in example.prompt)
            assert example.prompt[-1]["role"] == "user"


def test_ids_name_split_seed_and_index_or_are_the_data_sets_own(task: Task) -> None:
    if task.size("eval") is None:
        ids = [example.id for example in task.examples("eval", 3, seed=7, start=4)]
        assert ids == ["eval-7-4", "eval-7-5", "eval-7-6"]
    else:
        assert all(example.id for example in task.examples("eval", 2))


def test_a_problem_does_not_depend_on_count_or_start(task: Task) -> None:
    whole = task.examples("train", 30, seed=3)
    assert task.examples("train", 10, seed=3) == whole[:10]
    assert task.examples("train", 10, seed=3, start=20) == whole[20:]
    assert task.examples("train", 0) == []


def test_a_finite_split_is_gone_through_again_in_training_and_holds_others_than_evaluation(
    task: Task,
) -> None:
    size = task.size("train")
    if size is None:
        assert task.size("eval") is None
        return
    twice = task.examples("train", 2 * size, seed=3)
    first, second = ([example.id for example in part] for part in (twice[:size], twice[size:]))
    assert sorted(first) == sorted(second)
    assert len({*first}) == size
    assert first != second
    evaluated = task.size("eval")
    assert evaluated is not None
    held_out = {example.id for example in task.examples("eval", evaluated)}
    assert len(held_out) == evaluated
    assert not held_out & {*first}


def test_streams_differ_between_splits_and_between_seeds(task: Task) -> None:
    if task.size("train") is not None:
        return
    if task.name == "code":
        pytest.skip("small problems made from few words repeat themselves")
    streams = [task.examples(split, 200, seed=seed) for split in ("train", "eval") for seed in (0, 1)]
    contents = [{json.dumps([e.prompt, dict(e.truth)]) for e in stream} for stream in streams]
    for i, one in enumerate(contents):
        for other in contents[i + 1 :]:
            assert not one & other


def test_global_random_state_is_neither_read_nor_written(task: Task) -> None:
    random.seed(1)
    first = task.examples("train", 5)
    random.seed(2)
    before = random.getstate()
    assert task.examples("train", 5) == first
    task.demonstration(first[0])
    task.self_check(few(task, 5))
    assert random.getstate() == before


def test_demonstrations_are_accepted_and_repeatable(task: Task) -> None:
    examples = task.examples("eval", few(task, 200, "eval"))
    golds = [task.demonstration(example) for example in examples]
    for example, shown, verdict in zip(
        examples, golds, judge(task, [example.truth for example in examples], golds), strict=True
    ):
        assert verdict.success, verdict
        assert (verdict.error, verdict.reason) == (None, "")
        assert task.graded or verdict.reward == 1.0
        # From id and truth alone: what a data set or a file gives back is enough.
        copy = Example(id=example.id, prompt="", truth=json.loads(json.dumps(example.truth)))
        assert task.demonstration(copy) == shown


def test_a_batch_is_judged_as_its_completions_are(task: Task) -> None:
    examples = task.examples("train", few(task, 10))
    truths = [example.truth for example in examples] * 2
    completions = [task.demonstration(example) for example in examples] + ["no answer"] * len(examples)
    batch = task.score_many(truths, completions)
    assert batch == [task.score(truth, text) for truth, text in zip(truths, completions, strict=True)]
    assert [verdict.success for verdict in batch] == [True] * len(examples) + [False] * len(examples)


def test_a_description_is_json_and_names_every_parameter(task: Task) -> None:
    description = task.description()
    assert json.loads(json.dumps(description)) == description
    assert description["name"] == task.name
    assert set(description) >= {parameter.name for parameter in dataclasses.fields(task)}


def test_a_picture_is_text_or_there_is_none(task: Task) -> None:
    (example,) = task.examples("train", 1)
    picture = task.picture(example, [task.demonstration(example), "junk"])
    assert picture is None or len(picture) > 10


def test_vocabulary_covers_prompts_and_demonstrations(task: Task) -> None:
    vocabulary = task.vocabulary()
    if vocabulary is None:
        return
    words = set(vocabulary.words)
    assert len(words) == len(vocabulary.words)
    assert not any(" " in word or not word for word in words)
    for example in task.examples("train", few(task, 500)):
        for text in [*_texts(example), task.demonstration(example)]:
            assert set(text.split(" ")) <= words


def test_self_check_passes(task: Task) -> None:
    count = few(task, 100)
    result = task.self_check(count, seed=5)
    assert result.passed, result.failures
    assert result.problems == result.accepted == count
    assert sum(result.tried.values()) >= 3 * count
    assert not result.failures


def test_a_truth_that_is_no_problem_is_an_error_and_not_a_zero(task: Task) -> None:
    verdict = task.score({}, "anything")
    assert (verdict.success, verdict.reward) == (False, None)
    assert verdict.error
    assert verdict.reason  # so that it can be counted


@pytest.mark.parametrize(
    ("split", "count", "options", "message"),
    [
        ("test", 1, {}, "unknown split 'test'"),
        ("trian", 1, {}, "did you mean 'train'"),
        (3, 1, {}, "unknown split '3'"),
        ("train", -1, {}, "count=-1"),
        ("train", 1.0, {}, "count=1.0"),
        ("train", True, {}, "count=True"),
        ("train", 1, {"start": -1}, "start=-1 is not allowed; give a whole number of at least 0"),
        ("train", 1, {"seed": "0"}, "seed='0'"),
        ("train", 1, {"seed": -1}, "seed=-1"),
    ],
)
def test_bad_requests_are_refused(
    task: Task, split: str, count: int, options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        task.examples(split, count, **options)


@pytest.mark.parametrize("count", [0, -5, 1.5])
def test_a_self_check_of_nothing_is_refused(task: Task, count: int) -> None:
    with pytest.raises(InputError, match="count="):
        task.self_check(count)


SAME_EVERYWHERE = """
import json
import os
from maxrl.tasks import TASKS, get_task
for name in TASKS:
    task = get_task(name, **TASKS[name].check_parameters)
    for example in task.examples("train", 20, seed=11):
        print(json.dumps([example.id, example.prompt, example.truth, task.demonstration(example)]))
"""


def test_problems_are_the_same_in_every_process() -> None:
    seen = {
        subprocess.run(
            [sys.executable, "-c", SAME_EVERYWHERE],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(seen) == 1
    assert len(seen.pop().splitlines()) == 20 * len(TASKS)


def test_tasks_import_no_deep_learning_stack() -> None:
    code = "import sys, maxrl.tasks; print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

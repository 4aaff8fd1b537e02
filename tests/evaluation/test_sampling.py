"""An evaluation counts what the verifier says, writes down everything, and loses nothing."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from maxrl.engine import Completion, SamplingParams, TransformersGenerator
from maxrl.errors import InputError
from maxrl.evaluation import EvalSettings, Evaluation, ProblemCounts, evaluate
from maxrl.evaluation.sampling import PROBLEMS_AT_ONCE
from maxrl.models import encode_prompt
from maxrl.tasks import SubsetSum, Verdict

WRONG = "4 4 4 4"
"""Of three numbers, nobody can use four."""
BROKEN = "1 1 1 1"
"""`Flaky`'s verifier fails on this."""
EOS = 2


class Flaky(SubsetSum):
    """Subset-sum with a verifier that fails on one text."""

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        if completion == BROKEN:
            return Verdict(success=False, reward=None, error="the verifier timed out")
        return super().score(truth, completion)


TASK = Flaky(num_elements=3, max_value=4, prompt_format="compact")


class Scripted:
    """A `Generator` that answers from a script: per problem, the texts of its completions and the greedy one."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        sampled: Sequence[Sequence[str]],
        greedy: Sequence[str] = (),
        dies_at_call: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.sampled = list(sampled)
        self.greedy = list(greedy)
        self.dies_at_call = dies_at_call
        self.calls: list[tuple[list[list[int]], SamplingParams, list[int]]] = []

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seeds: Sequence[int],
        rollouts: Sequence[range] | None = None,
    ) -> list[list[Completion]]:
        assert rollouts is None  # an evaluation draws whole groups
        if len(self.calls) == self.dies_at_call:
            raise RuntimeError("out of memory")
        self.calls.append(([list(prompt) for prompt in prompts], params, list(seeds)))
        if params.temperature == 0:
            return [[self.completion(self.greedy.pop(0))] for _ in prompts]
        return [[self.completion(text) for text in self.sampled.pop(0)] for _ in prompts]

    def completion(self, text: str) -> Completion:
        """The text's tokens, each of log-probability −1/2; wrong answers run into the length limit."""
        ids = self.tokenizer(text=text, add_special_tokens=False)["input_ids"]
        if text != WRONG:
            ids = [*ids, EOS]
        return Completion(
            token_ids=tuple(ids),
            logprobs=(-0.5,) * len(ids),
            finish_reason="length" if text == WRONG else "stop",
        )


def solutions(count: int, seed: int = 0) -> list[str]:
    return [TASK.demonstration(example) for example in TASK.examples("eval", count, seed=seed)]


def test_counts_curve_and_greedy_accuracy(tokenizer: PreTrainedTokenizerFast) -> None:
    gold = solutions(3)
    sampled = [
        [gold[0], WRONG, WRONG, gold[0]],  # 2 of 4
        [WRONG, BROKEN, gold[1], BROKEN],  # 1 of 2: what the verifier failed on is not counted
        [BROKEN, BROKEN, BROKEN, BROKEN],  # nothing is known
    ]
    result = evaluate(
        Scripted(tokenizer, sampled, greedy=[gold[0], WRONG, BROKEN]),
        tokenizer,
        TASK,
        EvalSettings(eval_problems=3, eval_samples=4),
        max_completion_length=8,
    )
    assert result.problems == (
        ProblemCounts(id="eval-0-0", scored=4, correct=2, errors=0, truncated=2, greedy_success=True),
        ProblemCounts(id="eval-0-1", scored=2, correct=1, errors=2, truncated=1, greedy_success=False),
        ProblemCounts(id="eval-0-2", scored=0, correct=0, errors=4, truncated=0, greedy_success=None),
    )
    # pass@1: (2/4 + 1/2)/2; pass@2: (1 − C(2,2)/C(4,2) + 1)/2 = (5/6 + 1)/2; pass@4: the first alone
    assert [(entry.k, entry.estimate) for entry in result.pass_at_k] == [
        (1, pytest.approx(1 / 2)),
        (2, pytest.approx(11 / 12)),
        (4, pytest.approx(1)),
    ]
    assert result.greedy_accuracy == 1 / 2  # of the two that could be judged
    # Tokens of the sampled completions, with the end of text where it came; the greedy ones are not counted.
    first, second = (len(text.split()) + 1 for text in gold[:2])
    assert result.completion_tokens == (2 * first + 2 * 4) + (4 + 5 + second + 5) + 4 * 5
    assert result.confidence == 0.95
    assert 0 < result.seconds < 60


def test_prompts_sampling_seeds_and_progress(tokenizer: PreTrainedTokenizerFast) -> None:
    count = PROBLEMS_AT_ONCE + 2
    generator = Scripted(tokenizer, [[WRONG] * 3] * count, greedy=[WRONG] * count)
    settings = EvalSettings(
        eval_problems=count,
        eval_samples=3,
        eval_seed=7,
        eval_temperature=0.6,
        eval_top_p=0.9,
        eval_top_k=5,
    )
    seen: list[int] = []
    evaluate(generator, tokenizer, TASK, settings, max_completion_length=6, progress=seen.append)

    examples = TASK.examples("eval", count, seed=7)
    expected = [encode_prompt(tokenizer, example.prompt) for example in examples]
    halves = [expected[:PROBLEMS_AT_ONCE], expected[PROBLEMS_AT_ONCE:]]
    drawn = SamplingParams(max_completion_length=6, num_generations=3, temperature=0.6, top_p=0.9, top_k=5)
    greedy = SamplingParams(max_completion_length=6, temperature=0)
    assert [(prompts, params) for prompts, params, _ in generator.calls] == [
        (half, params) for half in halves for params in (drawn, greedy)
    ]
    assert seen == [PROBLEMS_AT_ONCE, count]
    # Every problem has a seed of its own, whatever batch it is in, and so have the problems of the next seed.
    other = Scripted(tokenizer, [[WRONG] * 3] * count, greedy=[WRONG] * count)
    evaluate(
        other, tokenizer, TASK, EvalSettings(**{**vars(settings), "eval_seed": 8}), max_completion_length=6
    )
    drawn_with = [
        seed
        for calls in (generator.calls, other.calls)
        for _, params, seeds in calls
        if params == drawn
        for seed in seeds
    ]
    assert len(drawn_with) == len(set(drawn_with)) == 2 * count
    for calls in (generator.calls, other.calls):
        assert [len(seeds) for _, _, seeds in calls] == [len(prompts) for prompts, _, _ in calls]


def test_the_seeds_of_problems_do_not_depend_on_how_many_there_are(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    seeds = []
    for count in (3, PROBLEMS_AT_ONCE + 2):
        generator = Scripted(tokenizer, [[WRONG]] * count)
        settings = EvalSettings(eval_problems=count, eval_samples=1, eval_greedy=False)
        evaluate(generator, tokenizer, TASK, settings, max_completion_length=6)
        seeds.append([seed for _, _, drawn_with in generator.calls for seed in drawn_with])
    assert seeds[1][:3] == seeds[0]


def test_without_greedy_there_is_no_accuracy(tokenizer: PreTrainedTokenizerFast) -> None:
    generator = Scripted(tokenizer, [[WRONG]] * 2)
    result = evaluate(
        generator,
        tokenizer,
        TASK,
        EvalSettings(eval_problems=2, eval_samples=1, eval_greedy=False),
        max_completion_length=6,
    )
    assert result.greedy_accuracy is None
    assert [problem.greedy_success for problem in result.problems] == [None, None]
    assert len(generator.calls) == 1


def test_every_completion_is_written_down(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    [gold] = solutions(1)
    [example] = TASK.examples("eval", 1)
    samples = tmp_path / "samples.jsonl"
    evaluate(
        Scripted(tokenizer, [[gold, WRONG, BROKEN]], greedy=[gold]),
        tokenizer,
        TASK,
        EvalSettings(eval_problems=1, eval_samples=3),
        max_completion_length=8,
        samples_file=samples,
    )
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    size = len(gold.split()) + 1
    right = {
        "id": "eval-0-0",
        "prompt": example.prompt,
        "completion": gold,
        "success": True,
        "reward": 1.0,
        "reason": "",
        "error": None,
        "finish_reason": "stop",
        "tokens": size,
        "logprob": -0.5 * size,
        "greedy": False,
    }
    wrong = {
        **right,
        "completion": WRONG,
        "success": False,
        "reward": 0.0,
        "reason": "number not available",
        "finish_reason": "length",
        "tokens": 4,
        "logprob": -2.0,
    }
    broken = {
        **right,
        "completion": BROKEN,
        "success": False,
        "reward": None,
        "error": "the verifier timed out",
        "tokens": 5,
        "logprob": -2.5,
    }
    assert rows == [right, wrong, broken, {**right, "greedy": True}]


def test_an_evaluation_that_dies_leaves_no_samples_under_their_name(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    samples = tmp_path / "samples.jsonl"
    count = PROBLEMS_AT_ONCE + 1
    generator = Scripted(tokenizer, [[WRONG]] * count, greedy=[WRONG] * count, dies_at_call=3)
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(
            generator,
            tokenizer,
            TASK,
            EvalSettings(eval_problems=count, eval_samples=1),
            max_completion_length=8,
            samples_file=samples,
        )
    assert len(generator.calls) == 3  # the first batch was sampled, scored and written
    assert not samples.exists()


def test_a_record_survives_json(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    gold = solutions(2)
    settings = EvalSettings(eval_problems=2, eval_samples=2)
    result = evaluate(
        Scripted(tokenizer, [[gold[0], WRONG], [WRONG, BROKEN]], greedy=[WRONG, BROKEN]),
        tokenizer,
        TASK,
        settings,
        max_completion_length=8,
    )
    assert result.settings == {
        "eval_problems": 2,
        "eval_samples": 2,
        "eval_ks": [1, 2],
        "eval_seed": 0,
        "eval_temperature": 1.0,
        "eval_top_p": 1.0,
        "eval_top_k": 0,
        "eval_greedy": True,
        "max_completion_length": 8,
        "task": {"name": "subset_sum", **vars(TASK)},
    }
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(result.to_dict()))
    assert Evaluation.load(path) == result
    assert Evaluation.from_dict(json.loads(path.read_text())) == result


def test_an_entry_of_the_curve_is_found_by_its_k() -> None:
    result = Evaluation.from_dict(
        {
            "problems": [],
            "pass_at_k": [{"k": k, "estimate": k / 4, "low": 0.0, "high": 1.0} for k in (1, 4)],
            "greedy_accuracy": None,
            "confidence": 0.95,
            "completion_tokens": 0,
            "seconds": 0.0,
        }
    )
    assert result.at(4).estimate == 1.0
    with pytest.raises(KeyError, match=r"pass@2 is not in this evaluation \(has k = \[1, 4\]\)"):
        result.at(2)


def test_a_real_policy_gives_the_same_evaluation_twice(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    # A random policy solves an easy problem now and then, so that the counts say something.
    generator = TransformersGenerator(model, stop_ids=[EOS], pad_id=0)

    def run(name: str, seed: int) -> tuple[Evaluation, list[dict[str, Any]]]:
        settings = EvalSettings(eval_problems=20, eval_samples=16, eval_seed=seed)
        path = tmp_path / name
        result = evaluate(generator, tokenizer, TASK, settings, max_completion_length=4, samples_file=path)
        return result, [json.loads(line) for line in path.read_text().splitlines()]

    once, rows = run("once", 0)
    again, same_rows = run("again", 0)
    assert (once.problems, once.pass_at_k, rows) == (again.problems, again.pass_at_k, same_rows)
    assert run("other", 1)[1] != rows
    assert sum(problem.correct for problem in once.problems) > 0
    drawn = [row for row in rows if not row["greedy"]]
    assert len(drawn) == 20 * 16
    assert len(rows) == 20 * 17
    assert once.completion_tokens == sum(row["tokens"] for row in drawn)
    for problem in once.problems:
        mine = [row for row in drawn if row["id"] == problem.id]
        assert problem.correct == sum(row["success"] for row in mine)
        assert problem.truncated == sum(row["finish_reason"] == "length" for row in mine)
        assert problem.scored + problem.errors == len(mine)


def test_the_ks_of_the_curve() -> None:
    assert EvalSettings(eval_samples=6).ks == [1, 2, 4, 6]
    assert EvalSettings(eval_samples=6, eval_ks=[5, 1, 5]).ks == [1, 5]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"eval_problems": 0}, "eval_problems must be at least 1, but is 0"),
        ({"eval_samples": 0}, "eval_samples must be at least 1, but is 0"),
        ({"eval_seed": -1}, "eval_seed must be at least 0, but is -1"),
        (
            {"eval_temperature": 0},
            "eval_temperature must be above 0 and finite, but is 0; eval_greedy covers",
        ),
        ({"eval_temperature": math.nan}, "eval_temperature must be above 0 and finite, but is nan"),
        ({"eval_temperature": math.inf}, "eval_temperature must be above 0 and finite, but is inf"),
        ({"eval_top_p": 0.0}, r"eval_top_p must lie in \(0, 1\], but is 0.0"),
        ({"eval_top_p": 1.1}, r"eval_top_p must lie in \(0, 1\], but is 1.1"),
        ({"eval_top_k": -1}, r"eval_top_k must be 0 \(all tokens\) or above, but is -1"),
        (
            {"eval_ks": [1, 8, 9], "eval_samples": 8},
            r"between 1 and eval_samples \(8\), but has \[9\]: .* raise eval_samples or drop them",
        ),
        ({"eval_ks": [0, 1]}, r"eval_ks must lie between 1 and eval_samples \(64\), but has \[0\]"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        EvalSettings(**wrong)


def test_what_the_verifier_failed_on_is_warned_of_once(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    count = 2 * PROBLEMS_AT_ONCE
    evaluate(
        Scripted(tokenizer, [[WRONG, BROKEN]] * count, greedy=[WRONG] * count),
        tokenizer,
        TASK,
        EvalSettings(eval_problems=count, eval_samples=2),
        max_completion_length=8,
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"evaluation on task subset_sum: {PROBLEMS_AT_ONCE} of {3 * PROBLEMS_AT_ONCE} completions got no verdict: verifier "
        "failed: the verifier timed out. They count neither as right nor as wrong"
    ]


def test_a_task_that_makes_no_examples_is_refused_before_anything_is_drawn(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    few = type("Few", (SubsetSum,), {"examples": lambda *_, **__: ["p"]})
    generator = Scripted(tokenizer, [])
    with pytest.raises(InputError, match=r"item 0 of examples.* is a str"):
        evaluate(generator, tokenizer, few(), EvalSettings(eval_problems=1), max_completion_length=8)
    assert not generator.calls

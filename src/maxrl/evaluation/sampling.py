"""Sample a policy on a task's evaluation stream and score every completion."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from transformers import PreTrainedTokenizerBase

from maxrl.engine import Completion, Generator, SamplingParams
from maxrl.errors import InputError
from maxrl.evaluation.curves import default_ks, pass_curve
from maxrl.evaluation.files import atomic_text
from maxrl.evaluation.records import Evaluation, ProblemCounts
from maxrl.models.text import decode_completion, encode_prompt
from maxrl.tasks import Example, Task, Verdict, judge
from maxrl.tasks.base import draw_examples
from maxrl.tasks.guard import FailureLog

PROBLEMS_AT_ONCE = 16
"""Problems sampled between two reports of progress. With transformers' `generate`, part of what determines the draws."""


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How a model is evaluated on a task."""

    eval_problems: int = field(default=100, metadata={"help": "Problems in the evaluation."})
    eval_samples: int = field(default=64, metadata={"help": "Completions sampled per problem (n of pass@k)."})
    eval_ks: list[int] | None = field(
        default=None, metadata={"help": "The k of pass@k; by default powers of two up to eval_samples."}
    )
    eval_seed: int = field(default=0, metadata={"help": "Seed of the evaluation's problems and draws."})
    eval_temperature: float = field(default=1.0, metadata={"help": "Sampling temperature in evaluation."})
    eval_top_p: float = field(default=1.0, metadata={"help": "Nucleus sampling in evaluation; 1 keeps all."})
    eval_top_k: int = field(default=0, metadata={"help": "Top-k sampling in evaluation; 0 keeps all."})
    eval_greedy: bool = field(
        default=True, metadata={"help": "Also decode each problem greedily and report the accuracy."}
    )

    def __post_init__(self) -> None:
        if self.eval_problems < 1:
            raise InputError(f"eval_problems must be at least 1, but is {self.eval_problems}")
        if self.eval_samples < 1:
            raise InputError(f"eval_samples must be at least 1, but is {self.eval_samples}")
        if not 0 < self.eval_temperature < math.inf:
            raise InputError(
                f"eval_temperature must be above 0 and finite, but is {self.eval_temperature}; eval_greedy covers greedy "
                "decoding"
            )
        if not 0 < self.eval_top_p <= 1:
            raise InputError(f"eval_top_p must lie in (0, 1], but is {self.eval_top_p}")
        if self.eval_top_k < 0:
            raise InputError(f"eval_top_k must be 0 (all tokens) or above, but is {self.eval_top_k}")
        if self.eval_seed < 0:
            raise InputError(f"eval_seed must be at least 0, but is {self.eval_seed}")
        wrong = [k for k in self.eval_ks or [] if not 1 <= k <= self.eval_samples]
        if wrong:
            raise InputError(
                f"eval_ks must lie between 1 and eval_samples ({self.eval_samples}), but has {wrong}: pass@k of more "
                "samples than were drawn cannot be estimated; raise eval_samples or drop them"
            )

    @property
    def ks(self) -> list[int]:
        """The k of the curve."""
        return sorted(set(self.eval_ks)) if self.eval_ks else default_ks(self.eval_samples)


def evaluate(
    generator: Generator,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    settings: EvalSettings,
    *,
    max_completion_length: int,
    samples_file: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Sample `eval_samples` completions of each of `eval_problems` problems and score them.

    The problems are the task's `eval` stream at `eval_seed`, all of it where it has fewer, and every model evaluated with
    the same settings answers the same. A completion on which the verifier fails is counted, and no failure of the model; the
    first failure of each kind is warned of.

    Args:
        generator: the policy.
        tokenizer: of the policy.
        task: makes the problems and scores the completions.
        settings: what to draw.
        max_completion_length: most new tokens per completion.
        samples_file: where every completion goes, a JSON object a line; written whole or not at all.
        progress: called with the number of problems finished so far.

    Raises:
        InputError: the task makes no proper examples (see `draw_examples`).
    """
    started = time.perf_counter()
    count = min(settings.eval_problems, task.size("eval") or settings.eval_problems)
    examples = draw_examples(task, "eval", count, seed=settings.eval_seed)
    failures = FailureLog(f"evaluation on task {task.name}", "They count neither as right nor as wrong")
    problems: list[ProblemCounts] = []
    tokens = 0
    with atomic_text(samples_file) if samples_file else nullcontext() as sink:
        for start in range(0, len(examples), PROBLEMS_AT_ONCE):
            batch = examples[start : start + PROBLEMS_AT_ONCE]
            answers = _draw(batch, start, generator, tokenizer, settings, max_completion_length)
            tokens += sum(len(completion.token_ids) for answer in answers for completion in answer.sampled)
            problems += _score(answers, tokenizer, task, sink, failures)
            if progress is not None:
                progress(len(problems))
    return Evaluation(
        problems=tuple(problems),
        pass_at_k=pass_curve(problems, settings.ks),
        greedy_accuracy=_greedy_accuracy(problems),
        confidence=0.95,
        completion_tokens=tokens,
        seconds=time.perf_counter() - started,
        settings={
            **asdict(settings),
            "eval_ks": settings.ks,
            "max_completion_length": max_completion_length,
            "task": task.description(),
        },
    )


def _problem_seed(eval_seed: int, number: int) -> int:
    """A seed of its own for every problem, apart from those of training."""
    digest = hashlib.sha256(f"maxrl evaluation {eval_seed} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class Answers:
    """What a policy answered to one problem."""

    example: Example
    sampled: Sequence[Completion]
    greedy: Sequence[Completion]


def _draw(
    batch: Sequence[Example],
    first: int,
    generator: Generator,
    tokenizer: PreTrainedTokenizerBase,
    settings: EvalSettings,
    max_completion_length: int,
) -> list[Answers]:
    """Completions of some problems, of which the first is number `first` of the evaluation."""
    prompts = [encode_prompt(tokenizer, example.prompt) for example in batch]
    seeds = [_problem_seed(settings.eval_seed, first + number) for number in range(len(batch))]
    params = SamplingParams(
        max_completion_length=max_completion_length,
        num_generations=settings.eval_samples,
        temperature=settings.eval_temperature,
        top_p=settings.eval_top_p,
        top_k=settings.eval_top_k,
    )
    drawn = generator.generate(prompts, params, seeds=seeds)
    best: list[list[Completion]] = [[] for _ in batch]
    if settings.eval_greedy:
        greedy = SamplingParams(max_completion_length=max_completion_length, temperature=0.0)
        best = generator.generate(prompts, greedy, seeds=seeds)
    return [
        Answers(example, completions, likeliest)
        for example, completions, likeliest in zip(batch, drawn, best, strict=True)
    ]


def _score(
    answers: Sequence[Answers],
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    sink: TextIO | None,
    failures: FailureLog,
) -> list[ProblemCounts]:
    """Verdicts on the completions of some problems, judged at once, counted by problem and written down."""
    rows = [
        (answer.example, completion, decode_completion(tokenizer, completion.token_ids), greedy)
        for answer in answers
        for greedy, completions in ((False, answer.sampled), (True, answer.greedy))
        for completion in completions
    ]
    verdicts = judge(
        task,
        [example.truth for example, *_ in rows],
        [text for _, _, text, _ in rows],
        batch_failed=failures.tell_batch,
    )
    failures.tell(verdicts)
    if sink is not None:
        for (example, completion, text, greedy), verdict in zip(rows, verdicts, strict=True):
            row = _sample_row(example, completion, text, verdict, greedy=greedy)
            sink.write(json.dumps(row, ensure_ascii=False) + "\n")
    judged = iter(verdicts)
    return [
        _count(answer, [next(judged) for _ in answer.sampled], [next(judged) for _ in answer.greedy])
        for answer in answers
    ]


def _count(answer: Answers, sampled: Sequence[Verdict], greedy: Sequence[Verdict]) -> ProblemCounts:
    scored = [verdict for verdict in sampled if verdict.error is None]
    greedy_scored = [verdict for verdict in greedy if verdict.error is None]
    return ProblemCounts(
        id=answer.example.id,
        scored=len(scored),
        correct=sum(verdict.success for verdict in scored),
        errors=len(sampled) - len(scored),
        truncated=sum(completion.finish_reason == "length" for completion in answer.sampled),
        greedy_success=greedy_scored[0].success if greedy_scored else None,
    )


def _sample_row(
    example: Example, completion: Completion, text: str, verdict: Verdict, *, greedy: bool
) -> dict[str, Any]:
    return {
        "id": example.id,
        "prompt": example.prompt,
        "completion": text,
        "success": verdict.success,
        "reward": verdict.reward,
        "reason": verdict.reason,
        "error": verdict.error,
        **({"components": dict(verdict.components)} if verdict.components else {}),
        "finish_reason": completion.finish_reason,
        "tokens": len(completion.token_ids),
        "logprob": sum(completion.logprobs),
        "greedy": greedy,
    }


def _greedy_accuracy(problems: Sequence[ProblemCounts]) -> float | None:
    judged = [problem.greedy_success for problem in problems if problem.greedy_success is not None]
    return sum(judged) / len(judged) if judged else None

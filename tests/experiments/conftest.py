"""A synthetic but plausible comparison, and its report as a reader sees it."""

import html as entities
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from maxrl.evaluation.records import Evaluation, PassAtK, ProblemCounts
from maxrl.experiments.records import Comparison, RunRecord
from maxrl.experiments.report import write_report

KS = (1, 2, 4, 8, 16, 32, 64)
SAMPLES = 64
STEPS = 300
NASTY = "<script>alert('x')</script> | `tick` *bold* &amp; $x$"


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def an_evaluation(logits: np.ndarray, rng: np.random.Generator, errors: int = 0) -> Evaluation:
    """Counts drawn at the given log-odds, in an order of its own."""
    correct = rng.binomial(SAMPLES, sigmoid(logits))
    greedy = logits + rng.normal(0, 0.5, len(logits)) > 0
    problems = [
        ProblemCounts(
            id=f"eval-0-{i}",
            scored=SAMPLES,
            correct=int(c),
            truncated=int(rng.integers(0, 3)),
            greedy_success=bool(g),
        )
        for i, (c, g) in enumerate(zip(correct, greedy, strict=True))
    ]
    for i in range(errors):
        problems[i] = replace(
            problems[i],
            scored=SAMPLES - 1,
            correct=min(problems[i].correct, SAMPLES - 1),
            errors=1,
            greedy_success=None,
        )
    order = rng.permutation(len(problems))
    return Evaluation(
        problems=tuple(problems[i] for i in order),
        pass_at_k=tuple(PassAtK(k=k, estimate=0.0, low=0.0, high=0.0) for k in KS),
        greedy_accuracy=float(np.mean(greedy)),
        confidence=0.95,
        completion_tokens=60 * SAMPLES * 9,
        seconds=21.0 + rng.random(),
        settings={"temperature": 1.0, "num_samples": SAMPLES},
    )


def some_metrics(final: float, dead: float, entropy: float, steps: int, rng: np.random.Generator) -> Any:
    """Rows as TRL logs them: every step, a few without a metric, a last one of the whole run."""
    rows: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        share = 1 - np.exp(-3 * step / STEPS)
        rows.append(
            {
                "step": step,
                "success_rate": float(np.clip(0.42 + (final - 0.42) * share + rng.normal(0, 0.05), 0, 1)),
                "reward": 0.5,
                "frac_reward_zero_mean": float(
                    np.clip(0.2 + (dead - 0.2) * share + rng.normal(0, 0.06), 0, 1)
                ),
                "frac_reward_all_success": float(np.clip(0.1 + 0.2 * share + rng.normal(0, 0.05), 0, 1)),
                "entropy": float(1.3 + (entropy - 1.3) * share + rng.normal(0, 0.03)),
                "elapsed": 0.25 * step,
            }
        )
    del rows[steps // 2]["entropy"]
    rows[steps // 3]["success_rate"] = float("nan")
    return (*rows, {"step": steps, "train_runtime": 75.0})


def a_comparison(*, seed: int = 0, problems: int = 60, errors: int = 0) -> Comparison:
    """maxrl (2 seeds), grpo (2 of 3 seeds), rloo (its only seed failed at once)."""
    rng = np.random.default_rng(seed)
    start = rng.normal(-0.6, 2.0, problems)
    runs = []
    shapes = {"maxrl": (1.0, 0.6, 0.5, 0.05, 1.0), "grpo": (1.7, 1.1, 0.52, 0.2, 0.3)}
    for estimator, (slope, shift, final, dead, entropy) in shapes.items():
        for run_seed in (0, 1):
            logits = slope * start + shift + rng.normal(0, 0.5, problems)
            runs.append(
                RunRecord(
                    estimator=estimator,
                    seed=run_seed,
                    folder=f"{estimator}-{run_seed}",
                    status="done",
                    metrics=some_metrics(final, dead, entropy, STEPS, rng),
                    evaluation=an_evaluation(logits, rng, errors if run_seed else 0),
                    training_seconds=70.0 + 6 * run_seed + (9.0 if estimator == "grpo" else 0.0),
                    rollouts=STEPS * 512,
                    completion_tokens=STEPS * 512 * 8 + run_seed,
                )
            )
    runs.append(
        RunRecord(
            estimator="grpo",
            seed=2,
            folder="grpo-2",
            status="failed",
            error="RuntimeError: the loss is not finite\nat step 97",
            metrics=some_metrics(0.5, 0.2, 0.3, 97, rng),
            training_seconds=24.0,
        )
    )
    runs.append(RunRecord(estimator="rloo", seed=0, folder="rloo-0", status="failed", error=NASTY))
    return Comparison(
        title="MaxRL and GRPO on subset-sum",
        command="maxrl compare --config recipes/subset_sum_tiny.yaml --estimators maxrl grpo rloo --seeds 0 1 2",
        settings={
            "task": "subset_sum",
            "num_elements": 6,
            "max_value": 20,
            "model_name_or_path": "tiny",
            "learning_rate": 3e-4,
            "num_generations": 32,
            "max_steps": STEPS,
            "beta": 0.0,
            "bf16": False,
            "stop_words": ["DONE"],
            "report_to": None,
        },
        arms=("maxrl", "grpo", "rloo"),
        before=an_evaluation(start, rng),
        runs=tuple(runs),
        seconds=312.4,
        environment={"python": "3.11.2", "torch": "2.13.0", "machine": "x86_64, 2 cores"},
    )


@dataclass(frozen=True)
class Pages:
    """Both forms of a report."""

    html: str
    markdown: str

    @property
    def text(self) -> str:
        """What a reader sees of the page, figures left out, white space evened."""
        html = re.sub(r"<(style|svg)\b.*?</\1>", " ", self.html, flags=re.DOTALL)
        return re.sub(r"[ \n]+", " ", entities.unescape(re.sub(r"<[^>]*>", " ", html)))

    @property
    def tokens(self) -> list[Any]:
        """The Markdown as GitHub reads it."""
        return MarkdownIt("commonmark").enable("table").parse(self.markdown)

    @property
    def tables(self) -> list[list[list[str]]]:
        """Tables of the Markdown: rows of cells, as text."""
        found: list[list[list[str]]] = []
        cell = False
        for token in self.tokens:
            if token.type == "table_open":
                found.append([])
            elif token.type == "tr_open":
                found[-1].append([])
            elif token.type in ("th_open", "td_open"):
                cell = True
            elif token.type == "inline" and cell:
                found[-1][-1].append("".join(child.content for child in token.children or ()))
                cell = False
        return found

    @property
    def rows(self) -> list[list[str]]:
        """Rows of all tables."""
        return [row for table in self.tables for row in table]


@pytest.fixture(scope="session")
def make_comparison() -> Callable[..., Comparison]:
    """Another comparison of the same kind: `seed`, `problems`, `errors` of the verifier."""
    return a_comparison


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    return a_comparison()


@pytest.fixture(scope="session")
def nasty() -> str:
    """Text that would be markup if nobody escaped it."""
    return NASTY


@pytest.fixture(scope="session")
def render(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Comparison], Pages]:
    """Write the report of a comparison and read it."""

    def write(comparison: Comparison) -> Pages:
        html, markdown = write_report(comparison, tmp_path_factory.mktemp("report") / "new" / "folder")
        assert (html.name, markdown.name) == ("report.html", "report.md")
        return Pages(html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8"))

    return write


@pytest.fixture(scope="session")
def pages(comparison: Comparison, render: Callable[[Comparison], Pages]) -> Pages:
    return render(comparison)

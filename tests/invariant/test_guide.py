"""The two tests that the guide of a Rust code generator asks for, on subset-sum: convergence and threshold sensitivity.

Its table of speeds (95 % correct after a tenth of GRPO's iterations) has no run behind it; what is held here was measured.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from maxrl.engine import SamplingParams
from maxrl.evaluation import Evaluation
from maxrl.experiments.data import load_data
from maxrl.experiments.policies import Policy, prepare_policy
from maxrl.experiments.recipe import Recipe, make_recipe
from maxrl.experiments.records import RunRecord
from maxrl.experiments.runs import train_run
from maxrl.objectives import SuccessWeighted

FIELDS = {
    "task": "subset_sum",
    "num_elements": 4,
    "max_value": 10,
    "model_name_or_path": "tiny",
    "tiny_layers": 2,
    "tiny_width": 64,
    "tiny_feed_forward": 256,
    "num_generations": 16,
    "per_device_train_batch_size": 128,
    "max_completion_length": 6,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "constant",
    "activation_checkpointing": False,
    "bf16": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "eval_problems": 200,
    "eval_samples": 16,
    "eval_greedy": False,
    "eval_before_training": False,
}
PROBLEMS, ROLLOUTS = 100, 16


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the search path for modules is put back afterwards."""
    monkeypatch.setenv("MAXRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def recipe(estimator: str, seed: int, **fields: Any) -> Recipe:
    folder = {"output_dir": f"{estimator}-{seed}"}
    return make_recipe({**FIELDS, **folder, "advantage_estimator": estimator, "seed": seed, **fields})


def steps_until(rate: float, run: RunRecord, window: int = 10) -> int:
    """The first step at which the mean success rate of the last ten steps has come so far."""
    rates = [row["success_rate"] for row in run.metrics]
    means = [statistics.mean(rates[end - window : end]) for end in range(window, len(rates) + 1)]
    return next(window + index for index, mean in enumerate(means) if mean >= rate)


@pytest.mark.slow
def test_convergence_against_grpo(workplace: Path) -> None:
    runs: dict[str, list[RunRecord]] = {}
    for estimator in ("success_weighted", "maxrl", "grpo"):
        runs[estimator] = [
            train_run(recipe(estimator, seed, max_steps=60, eval_before_training=estimator == "grpo"))
            for seed in (0, 1)
        ]
    start = Evaluation.load(workplace / "grpo-0" / "eval_before.json").at(1).estimate
    # Measured over three seeds, from .238: success_weighted .435 to .467, maxrl .388 to .402, grpo .427 to .436.
    for estimator, arm in runs.items():
        for run in arm:
            assert run.evaluation is not None
            assert run.evaluation.at(1).estimate > start + 0.08, estimator
    # Measured over three seeds: 27 to 32, 34 to 47 and 27 to 33 steps. Nobody is ten times as fast as another.
    steps = [steps_until(start + 0.12, run) for arm in runs.values() for run in arm]
    assert max(steps) < 5 * min(steps)


GRADED = """
import json
from maxrl.tasks import SubsetSum

TASK = SubsetSum(num_elements=4, max_value=10, prompt_format="compact")

def graded(completions, truth, **_):
    rewards = []
    for row, completion in zip(truth, completions, strict=True):
        verdict = TASK.score(json.loads(row), completion)
        possible = verdict.success or verdict.reason == "wrong sum"
        short = verdict.success and len(completion.split()) == 1
        rewards.append(10.0 * possible + 20.0 * verdict.success + 5.0 * short)
    return rewards
"""
"""10 for numbers that may be chosen, 20 more where they add up, 5 more for a single one: 0, 10, 30 or 35."""


def measured(policy: Policy, grading: Recipe, estimator: SuccessWeighted) -> tuple[float, float]:
    """On the policy's own rollouts: the share above the threshold, and the guide's loss −Σ w log π / Σ w."""
    assert grading.task is not None
    examples = grading.task.examples("eval", PROBLEMS, seed=1)
    tokenizer = policy.tokenizer
    groups = policy.generator().generate(
        [tokenizer(example.prompt)["input_ids"] for example in examples],
        SamplingParams(max_completion_length=6, num_generations=ROLLOUTS),
        seeds=range(PROBLEMS),
    )
    rollouts = [rollout for group in groups for rollout in group]
    truths = [json.dumps(dict(example.truth)) for example in examples for _ in range(ROLLOUTS)]
    texts = [tokenizer.decode(rollout.token_ids, skip_special_tokens=True) for rollout in rollouts]
    _, _, (_, graded) = load_data(grading)
    rewards = torch.tensor(graded(completions=texts, truth=truths), dtype=torch.float64)
    logprobs = torch.tensor([sum(rollout.logprobs) for rollout in rollouts], dtype=torch.float64)
    weights = estimator(rewards.view(1, -1))[0] / len(rewards)
    return float((rewards > estimator.threshold).double().mean()), float(-(weights * logprobs).sum())


@pytest.mark.slow
def test_threshold_sensitivity(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "rust_like.py").write_text(GRADED)
    monkeypatch.delitem(sys.modules, "rust_like", raising=False)
    graded = {"reward_funcs": ["rust_like:graded"], "reward_weights": [0.0, 1.0], "max_steps": 40}

    def trained(threshold: float) -> tuple[Recipe, RunRecord, Policy]:
        run = recipe(f"success_weighted(threshold={threshold}, temperature=20.0)", 0, **graded)
        record = train_run(run)
        folder = {"model_name_or_path": run.training.output_dir}
        return run, record, prepare_policy(make_recipe({**run.given, **folder}))

    start = prepare_policy(recipe("maxrl", 0, **graded))
    for threshold in (5.0, 15.0, 32.0):
        estimator = SuccessWeighted(threshold=threshold, temperature=20.0)
        run, _, policy = trained(threshold)
        (rate_before, loss_before), (rate, loss) = (measured(p, run, estimator) for p in (start, policy))
        # Measured: the share rises by .13 (threshold 5), .18 (15) and .18 (32), the loss falls to a half or less.
        assert rate > rate_before + 0.05, threshold
        assert loss < 0.8 * loss_before, threshold

    # Nothing is above it: no correct rollout, and not a weight moves.
    _, record, policy = trained(40.0)
    assert {row["correctness_rate"] for row in record.metrics} == {0.0}
    weights = policy.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in start.model.state_dict().items())

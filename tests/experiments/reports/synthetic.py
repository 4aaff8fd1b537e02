"""Folders of runs that were never made, in the formats of real ones: for tests, and for `benchmarks/report.py`.

Training is a logistic curve between two pass rates per prompt; MaxRL empties the dead groups, GRPO sharpens what it
could do already. Everything is drawn from a seed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

SHARED: dict[str, Any] = {
    "task": "subset_sum",
    "eval_before_training": True,
    "num_elements": 6,
    "max_value": 20,
    "prompt_format": "compact",
    "eval_problems": 200,
    "eval_samples": 64,
    "eval_seed": 0,
    "tiny_layers": 3,
    "warm_start_pass_rate": 0.25,
    "advantage_estimator": "maxrl",
    "num_generations": 32,
    "per_device_train_batch_size": 512,
    "max_completion_length": 8,
    "max_steps": 1000,
    "learning_rate": 0.0003,
    "lr_scheduler_type": "constant",
    "beta": 0.0,
    "bf16": False,
    "seed": 0,
    "model_name_or_path": "tiny",
    "logging_steps": 1.0,
    "save_steps": 100.0,
    "report_to": "none",
}

ENVIRONMENT = {
    "python": "3.11.7",
    "maxrl": "0.1.0",
    "torch": "2.13.0+cpu",
    "code": "0123456789ab",
    "machine": "Linux x86_64, 2 cores",
    "threads": "1",
}

# What a row of metrics.jsonl holds besides what the page reads, so that reading takes as long as it does.
_OTHERS = (
    "loss", "grad_norm", "learning_rate", "num_tokens", "completions/mean_length", "completions/min_length",
    "completions/max_length", "completions/clipped_ratio", "rewards/subset_sum/mean", "rewards/subset_sum/std",
    "reward_std", "frac_reward_zero_std", "verifier/wrong sum", "advantage_mass", "frac_truncated", "weights/q05",
    "weights/q25", "weights/q50", "weights/q75", "weights/q95", "weights/effective_sample_size", "clip_ratio/low_mean",
    "step_time", "epoch",
)  # fmt: skip

Array = np.ndarray


@dataclass
class Maker:
    """Makes run folders, from one seed."""

    seed: int = 0
    steps: int = 40
    problems: int = 60
    samples: int = 32
    prompts: int = 8
    """Groups per step."""
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the recipes, in place of `SHARED`'s."""

    def run(
        self,
        folder: Path,
        estimator: str = "maxrl",
        seed: int = 0,
        *,
        state: str = "done",
        evaluated: bool = True,
        environment: dict[str, str] | None = None,
        **fields: Any,
    ) -> Path:
        """Write one run's folder; `state` is done, failed or stopped."""
        folder.mkdir(parents=True)
        config = {
            **SHARED, "max_steps": self.steps, "eval_problems": self.problems, "eval_samples": self.samples,
            **self.fields, "advantage_estimator": estimator, "seed": seed, "output_dir": str(folder), **fields,
        }  # fmt: skip
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        _dump(folder / "environment.json", ENVIRONMENT if environment is None else environment)
        rng = np.random.default_rng([self.seed, seed, len(estimator), config["num_generations"]])
        start = self._log_odds(config)
        final = self._learned(start, config, rng)
        steps = self.steps if state == "done" else max(1, self.steps // 3)
        rows, diagnostics = self._curves(steps, start, final, config, rng)
        for name, lines in (("metrics.jsonl", rows), ("diagnostics.jsonl", diagnostics)):
            (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        if evaluated:
            _dump(folder / "eval_before.json", self.evaluation(start, config, np.random.default_rng(7)))
        if state == "failed":
            (folder / "error.txt").write_text(
                "Traceback (most recent call last):\nRuntimeError: the loss is not finite\n"
            )
        if state == "done":
            if evaluated:
                _dump(folder / "eval.json", self.evaluation(final, config, rng))
            _dump(
                folder / "run.json",
                {
                    "estimator": estimator,
                    "seed": seed,
                    "steps": steps,
                    "training_seconds": rows[-1]["elapsed"],
                },
            )
        return folder

    def _log_odds(self, config: dict[str, Any]) -> Array:
        """Of each problem, before training; the same for all runs on a task."""
        rng = np.random.default_rng([self.seed, config["num_elements"]])
        return rng.normal(1.5 - 0.4 * config["num_elements"], 1.8, self.problems)

    def _learned(self, start: Array, config: dict[str, Any], rng: np.random.Generator) -> Array:
        gain = 0.5 + 0.2 * np.log2(config["num_generations"] / 8)
        noise = rng.normal(0, 0.25) + rng.normal(0, 0.4, len(start))
        if str(config["advantage_estimator"]).startswith("grpo"):
            return 1.5 * start + gain + noise
        return 0.9 * start + 1.3 * gain + noise

    def evaluation(self, log_odds: Array, config: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """As `eval.json` holds it."""
        n = int(config["eval_samples"])
        correct = rng.binomial(n, 1 / (1 + np.exp(-log_odds)))
        ks = [2**e for e in range(n.bit_length()) if 2**e <= n]
        return {
            "problems": [
                {
                    "id": f"eval-{config['eval_seed']}-{i}",
                    "scored": n,
                    "correct": int(c),
                    "errors": 0,
                    "truncated": 0,
                    "greedy_success": bool(odds > 0),
                }
                for i, (c, odds) in enumerate(zip(correct, log_odds, strict=True))
            ],
            "pass_at_k": [{"k": k, "estimate": 0.0, "low": 0.0, "high": 0.0} for k in ks],
            "greedy_accuracy": float((log_odds > 0).mean()),
            "confidence": 0.95,
            "completion_tokens": 4 * n * len(log_odds),
            "seconds": 3.5,
            "settings": {
                "eval_problems": len(log_odds),
                "eval_samples": n,
                "eval_seed": config["eval_seed"],
                "eval_temperature": 1.0,
                "task": {
                    "name": config["task"],
                    "num_elements": config["num_elements"],
                    "max_value": config["max_value"],
                },
            },
        }

    def _curves(
        self, steps: int, start: Array, final: Array, config: dict[str, Any], rng: np.random.Generator
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        n, prompts = int(config["num_generations"]), self.prompts
        share_T = 1 - np.exp(-3 * np.arange(1, steps + 1) / self.steps)
        drawn_TG = rng.integers(len(start), size=(steps, prompts))
        odds_TG = start[drawn_TG] + (final - start)[drawn_TG] * share_T[:, None]
        correct_TG = rng.binomial(n, 1 / (1 + np.exp(-odds_TG)))
        others_TK = rng.normal(size=(steps, len(_OTHERS)))
        speed = 0.2 + 0.002 * n + (0.05 if config["advantage_estimator"] == "grpo" else 0.0)
        rows, diagnostics = [], []
        for step in range(1, steps + 1):
            correct = correct_TG[step - 1]
            rate, dead, all_ = correct.mean() / n, float((correct == 0).mean()), float((correct == n).mean())
            figures = {"groups/dead": dead, "groups/live": 1 - dead - all_, "groups/mastered": all_}
            rows.append({
                "step": step,
                "elapsed": round(speed * step, 3),
                "rollouts": step * prompts * n,
                "completion_tokens": step * prompts * n * 4,
                "success_rate": rate,
                "reward": rate,
                "frac_reward_zero_mean": dead,
                "frac_reward_all_success": all_,
                **figures,
                "entropy": float(1.3 - 0.4 * share_T[step - 1]),
                "train_pass@1": rate,
                **dict(zip(_OTHERS, others_TK[step - 1].tolist(), strict=True)),
            })  # fmt: skip
            diagnostics.append({
                "step": step,
                **figures,
                "k_histogram": np.bincount(correct, minlength=n + 1).tolist(),
                "pass_rates": {f"train-0-{g}": float(c) / n for g, c in zip(drawn_TG[step - 1], correct, strict=True)},
            })  # fmt: skip
        return rows, diagnostics


def a_grid(
    folder: Path,
    maker: Maker,
    *,
    estimators: Sequence[str] = ("maxrl", "grpo"),
    seeds: Sequence[int] = (0, 1),
    groups: Sequence[int] = (16, 32, 64, 128),
    sizes: Sequence[tuple[int, int]] = ((5, 20), (10, 50)),
) -> Path:
    """Easy and hard problems × group sizes × estimators × seeds, named as grids name them."""
    for elements, largest in sizes:
        for group in groups:
            for estimator in estimators:
                for seed in seeds:
                    maker.run(
                        folder / f"tiny-{estimator}-n{elements}-gs{group}-seed{seed}",
                        estimator,
                        seed,
                        num_elements=elements,
                        max_value=largest,
                        num_generations=group,
                        per_device_train_batch_size=maker.prompts * group,
                    )
    return folder


def _dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1))

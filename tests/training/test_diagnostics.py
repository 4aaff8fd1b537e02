"""What the trainer keeps of each generation."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from tests.training.runs import dictated, logs

from maxrl.objectives import MaxRL, SuccessWeighted
from maxrl.objectives.diagnostics import group_diagnostics
from maxrl.training.diagnostics import pass_rates, prompt_id
from maxrl.training.progress import MOST_PROMPTS, Progress

STEPS = [[1, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0, 0, 0]]


def test_figures_are_logged_and_kept(make_trainer: Any) -> None:
    data = Dataset.from_dict({"prompt": ["1", "2", "3", "4"], "id": ["a", "b", "c", "d"]})
    trainer = make_trainer(reward_funcs=dictated(STEPS), train_dataset=data, shuffle_dataset=False)
    rows: list[dict[str, Any]] = []
    for step in (1, 2, 3):
        trainer.args.max_steps = step
        trainer.train(resume_from_checkpoint=step > 1)
        trainer._save_checkpoint(trainer.model, None)
        rows += trainer.diagnostics
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [row["pass_rates"] for row in rows] == [
        {"a": 0.25, "b": 0.5},
        {"c": 0.0, "d": 1.0},
        {"a": 0.75, "b": 0.0},
    ]
    assert [row["k_histogram"] for row in rows] == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1], [1, 0, 0, 1, 0]]
    # The least recent first: a and b were drawn again.
    assert list(trainer.progress.recent_pass_rates.items()) == [("c", 0), ("d", 1), ("a", 0.75), ("b", 0)]
    for pattern, row in zip(STEPS, rows, strict=True):
        signal = torch.tensor(pattern).view(2, 4).float()
        found = group_diagnostics(signal, MaxRL()(signal))
        assert (row["groups/dead"], row["groups/live"], row["groups/mastered"]) == (
            found.dead,
            found.live,
            found.mastered,
        )
        assert row["weights/effective_sample_size"] == found.effective_sample_size
        assert {k: row[f"train_pass@{k}"] for k in (1, 2, 4)} == found.pass_at_k
    assert rows[0]["weights/q100"] == 3
    assert rows[0]["weights/q05"] == 1
    assert rows[1]["weights/q50"] is None  # no weights where nothing is live


def test_the_same_figures_are_metrics(make_trainer: Any) -> None:
    trainer = make_trainer(reward_funcs=dictated(STEPS))
    trainer.train()
    kept = trainer.diagnostics[-1]
    figures = kept.keys() - {"step", "k_histogram", "pass_rates"}
    assert figures == {
        *(f"groups/{kind}" for kind in ("dead", "live", "mastered")),
        *(f"weights/q{quantile}" for quantile in ("05", "25", "50", "75", "95", "100")),
        "weights/effective_sample_size",
        *(f"train_pass@{k}" for k in (1, 2, 4)),
    }
    assert {name: logs(trainer)[-1][name] for name in figures} == {name: kept[name] for name in figures}


def test_a_step_of_two_generations_keeps_both(make_trainer: Any) -> None:
    trainer = make_trainer(
        reward_funcs=dictated(STEPS), gradient_accumulation_steps=2, steps_per_generation=1, max_steps=2
    )
    trainer.train()
    assert [row["step"] for row in trainer.diagnostics] == [2, 2]


def test_a_prompt_without_an_id_is_known_by_its_row() -> None:
    chat = [{"role": "user", "content": "1 + 1"}]
    assert prompt_id({"prompt": "1", "id": 7}) == "7"
    names = [prompt_id({"prompt": prompt}) for prompt in ("1", "2", chat)]
    assert len({*names}) == 3
    assert all(len(name) == 12 for name in names)
    assert prompt_id({"prompt": "1"}) == names[0]
    assert len(prompt_id({"prompt": "1", "id": None})) == 12, "an empty id is none"
    assert prompt_id({"prompt": [{"content": "1 + 1", "role": "user"}]}) == names[2]
    answers = [prompt_id({"prompt": "1", "answer": answer}) for answer in ("2", "3")]
    assert len({names[0], *answers}) == 3
    assert prompt_id({"answer": "2", "prompt": "1"}) == answers[0]
    pictures = [{"prompt": [{"role": "user", "content": [object()]}]} for _ in range(2)]
    assert prompt_id(pictures[0]) == prompt_id(pictures[1]), "no address in memory"


def test_unscored_groups_have_no_pass_rate() -> None:
    signal = torch.tensor([[1.0, 0.0], [torch.nan, torch.nan], [torch.nan, 1.0]])
    assert pass_rates(["a", "b", "c"], signal) == [("a", 0.5), ("c", 1.0)]


def test_only_so_many_prompts_are_remembered() -> None:
    progress = Progress()
    progress.remember((str(number), 0.0) for number in range(MOST_PROMPTS))
    progress.remember([("0", 1.0), ("new", 0.5)])
    assert len(progress.recent_pass_rates) == MOST_PROMPTS
    assert "1" not in progress.recent_pass_rates
    assert (progress.recent_pass_rates["0"], progress.recent_pass_rates["new"]) == (1.0, 0.5)


@pytest.mark.parametrize("steps_per_generation", [1, 2])
def test_rollouts_and_tokens_are_totals(make_trainer: Any, steps_per_generation: int) -> None:
    """Where a generation serves two steps the second adds nothing."""
    trainer = make_trainer(
        reward_funcs=dictated(STEPS), steps_per_generation=steps_per_generation, max_steps=4
    )
    trainer.train()
    rows = logs(trainer)
    size = 8 * steps_per_generation
    assert [row["rollouts"] for row in rows] == list(range(size, 33, size))
    tokens = 0.0
    for row in rows:
        tokens += row["completions/mean_length"] * size
        assert row["completion_tokens"] == pytest.approx(tokens)


@pytest.mark.parametrize("theirs", [-100.0, float("nan")])
def test_only_tokens_of_the_policy_are_counted(make_trainer: Any, tokenizer: Any, theirs: float) -> None:
    """Of four tokens an environment wrote the second and the third."""

    def rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        words = tokenizer("1 2 3", add_special_tokens=False)["input_ids"]
        return {
            "prompt_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts],
            "completion_ids": [[*words, tokenizer.eos_token_id]] * len(prompts),
            "logprobs": [[-1.0, theirs, theirs, -2.0]] * len(prompts),
            "env_mask": [[1, 0, 0, 1]] * len(prompts),
        }

    trainer = make_trainer(
        reward_funcs=dictated(STEPS), rollout_func=rollouts, max_steps=1, estimator=SuccessWeighted()
    )
    trainer.train()
    assert trainer.progress.completion_tokens == 8 * 2
    assert logs(trainer)[0]["weighted_nll"] == 3  # −Σ w log π/Σ w, and each log π is −1 − 2
    assert logs(trainer)[0]["frac_truncated"] == 0

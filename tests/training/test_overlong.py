"""Rollouts that were cut off before a stop token: kept, counted as failures, or left out."""

from typing import Any

import pytest
import torch
from tests.training.runs import Recording, dictated, logs

from maxrl.errors import InputError

REWARDS = [1.0, 1.0, 0.0, 0.0]
"""Of each group; the second and the third rollout are cut off."""

EXPECTED = {
    "keep": [1, 1, -1, -1],  # r̂ = 1/2
    "zero": [3, -1, -1, -1],  # [1, 0, 0, 0]: r̂ = 1/4
    "drop": [1, 0, 0, -1],  # [1, –, –, 0]: r̂ = 1/2 of two
}
SUCCESS = {"keep": 0.5, "zero": 0.25, "drop": 0.5}


def cut_off_in_the_middle(tokenizer: Any) -> Any:
    def rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        words = tokenizer("1 2", add_special_tokens=False)["input_ids"]
        completions = [
            [*words, *words] if row % 4 in (1, 2) else [*words, tokenizer.eos_token_id]
            for row in range(len(prompts))
        ]
        return {
            "prompt_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts],
            "completion_ids": completions,
            "logprobs": [[-1.0] * len(ids) for ids in completions],
        }

    return rollouts


@pytest.mark.parametrize("masked", [False, True], ids=["trained", "masked"])
@pytest.mark.parametrize("overlong", ["keep", "zero", "drop"])
def test_three_ways_by_hand(make_trainer: Any, tokenizer: Any, overlong: str, masked: bool) -> None:
    """Also where TRL masks truncated rollouts, upon which their lengths cannot be read from the batch."""
    trainer = make_trainer(
        Recording,
        overlong=overlong,
        mask_truncated_completions=masked,
        reward_funcs=dictated([REWARDS]),
        rollout_func=cut_off_in_the_middle(tokenizer),
        max_steps=1,
    )
    trainer.train()
    assert trainer.advantages == [EXPECTED[overlong] * 2]
    (row,) = logs(trainer)
    assert row["frac_truncated"] == row["completions/clipped_ratio"] == 0.5
    assert row["success_rate"] == SUCCESS[overlong]
    assert row["completion_tokens"] == 2 * (3 + 4 + 4 + 3)
    assert row["rollouts"] == 8
    mask = trainer.batches[0]["completion_mask"].sum(dim=1).tolist()
    assert mask == [3, 0, 0, 3] * 2 if masked else [3, 4, 4, 3] * 2


def test_zero_comes_after_the_threshold(make_trainer: Any, tokenizer: Any) -> None:
    """Rewards 5, 5, −5, −5 above −10 are all successes; the two that were cut off are failures."""
    trainer = make_trainer(
        Recording,
        overlong="zero",
        correctness_threshold=-10.0,
        reward_funcs=dictated([[5.0, 5.0, -5.0, -5.0]]),
        rollout_func=cut_off_in_the_middle(tokenizer),
        max_steps=1,
    )
    trainer.train()
    assert trainer.advantages == [[1, -1, -1, 1] * 2]


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_rollouts_that_a_policy_drew(make_trainer: Any, tokenizer: Any, backend: str) -> None:
    """All succeed; with `zero` exactly those without a stop token are failures, and evaluations see them so, too.

    A random policy may draw the padding token, which ends a completion for TRL, too.
    """
    trainer = make_trainer(
        Recording,
        overlong="zero",
        rollout_backend=backend,
        reward_funcs=dictated([[1.0]]),
        advantage_estimator="reinforce",
        max_steps=2,
        eval_dataset=make_trainer().train_dataset.select(range(4)),
        eval_strategy="steps",
        eval_steps=2,
    )
    trainer.train()
    stops = torch.tensor([tokenizer.pad_token_id, tokenizer.eos_token_id])
    ended = []
    for batch in trainer.batches:
        last = batch["completion_mask"].sum(dim=1, keepdim=True) - 1
        ends = torch.isin(batch["completion_ids"].gather(1, last)[:, 0], stops)
        assert torch.equal(batch["advantages"], ends.to(batch["advantages"].dtype))
        ended += ends.tolist()
    assert 0 < sum(ended) < len(ended)
    for row in logs(trainer):
        assert row["frac_truncated"] == pytest.approx(1 - row["success_rate"])
    (row,) = (row for row in trainer.state.log_history if "eval_success_rate" in row)
    assert row["eval_success_rate"] == pytest.approx(1 - row["eval_frac_truncated"])
    assert 0 < row["eval_frac_truncated"] < 1


def test_an_unknown_way_is_refused(make_trainer: Any) -> None:
    with pytest.raises(InputError, match="unknown overlong 'dorp'; did you mean 'drop'"):
        make_trainer(overlong="dorp")

"""`MaxRLTrainer` runs for real on a policy of a few thousand weights."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tests.training.settings import settings
from transformers import Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from maxrl.errors import InputError, RewardError
from maxrl.objectives import MaxRL
from maxrl.tasks import SubsetSum
from maxrl.training import MaxRLConfig, MaxRLTrainer, TaskReward, task_dataset
from maxrl.training.progress import STATE

Rows = list[dict[str, float]]


@pytest.fixture
def train(
    tmp_path: Path, model: Qwen2ForCausalLM, tokenizer: Any, task: SubsetSum
) -> Callable[..., MaxRLTrainer]:
    """Build a trainer, train it, return it. Keywords that are no fields go to the constructor."""
    constructor = (
        "reward_funcs",
        "peft_config",
        "rollout_func",
        "eval_dataset",
        "train_dataset",
        "callbacks",
    )

    def run(**fields: Any) -> MaxRLTrainer:
        extra = {name: fields.pop(name) for name in constructor if name in fields}
        extra.setdefault("reward_funcs", TaskReward(task))
        extra.setdefault("train_dataset", task_dataset(task, "train", 64))
        trainer = MaxRLTrainer(
            model=model,
            args=MaxRLConfig(**settings(tmp_path, **fields)),
            processing_class=tokenizer,
            **extra,
        )
        trainer.train()
        return trainer

    return run


def logs(trainer: GRPOTrainer) -> Rows:
    return [row for row in trainer.state.log_history if "reward" in row]


def weights(trainer: GRPOTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def weight_change(trainer: GRPOTrainer, model: Qwen2ForCausalLM, start: torch.Tensor) -> float:
    return float((torch.cat([p.detach().flatten() for p in model.parameters()]) - start).abs().max())


def alternating(value: float = 1.0) -> Callable[..., list[float | None]]:
    """A reward function that ignores the text: every second rollout succeeds."""

    def reward(prompts: Any, completions: Any, **_: Any) -> list[float | None]:
        return [value * (index % 2) for index in range(len(completions))]

    return reward


def test_with_grpo_the_run_is_trls_to_the_bit(
    tmp_path: Path, tokenizer: Any, task: SubsetSum, policy_folder: Path
) -> None:
    fields = settings(
        tmp_path, loss_type="dapo", beta=0.04, num_iterations=2, steps_per_generation=2, max_steps=6
    )
    dataset = task_dataset(task, "train", 64)
    reward = TaskReward(task)

    def run(trainer_class: Any, args: Any) -> GRPOTrainer:
        model = Qwen2ForCausalLM.from_pretrained(policy_folder)
        trainer = trainer_class(
            model=model, reward_funcs=reward, args=args, train_dataset=dataset, processing_class=tokenizer
        )
        trainer.train()
        return trainer

    theirs = run(GRPOTrainer, GRPOConfig(**fields))
    ours = run(
        MaxRLTrainer,
        MaxRLConfig(**fields, advantage_estimator="grpo", rollout_backend="transformers"),
    )
    assert torch.equal(weights(ours), weights(theirs))
    assert list(ours._logs["advantages"]) == list(theirs._logs["advantages"])
    timing = {"step_time"}
    for our_row, their_row in zip(logs(ours), logs(theirs), strict=True):
        shared = their_row.keys() - timing
        assert {name: our_row[name] for name in shared} == {name: their_row[name] for name in shared}


def test_the_estimator_decides_the_update(train: Any, model: Qwen2ForCausalLM) -> None:
    """The same rewards under MaxRL, with rollouts scripted: [1,0,0,0] must give 3, −1, −1, −1 in the batch."""
    seen: list[torch.Tensor] = []
    original = MaxRLTrainer._generate_and_score_completions

    def spy(self: MaxRLTrainer, inputs: Any) -> Any:
        output = original(self, inputs)
        seen.append(output["advantages"].clone())
        return output

    def first_of_four(prompts: Any, completions: Any, **_: Any) -> list[float]:
        return [float(index % 4 == 0) for index in range(len(completions))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaxRLTrainer, "_generate_and_score_completions", spy)
        trainer = train(reward_funcs=first_of_four)
    assert [batch.tolist() for batch in seen] == [[3.0, -1.0, -1.0, -1.0] * 2] * 3
    assert list(trainer._logs["advantages"]) == [3.0, -1.0, -1.0, -1.0] * 2
    row = logs(trainer)[0]
    assert row["success_rate"] == 0.25
    assert row["advantage_mass"] == 1.5  # (3 + 1 + 1 + 1) / 4 = 2 (1 − r̂)
    assert row["frac_reward_zero_mean"] == row["frac_reward_all_success"] == row["frac_reward_nonbinary"] == 0


def test_dead_and_mastered_groups_are_counted_and_move_nothing(train: Any, model: Qwen2ForCausalLM) -> None:
    """Four groups of two: the first all success, the others without any."""

    def by_group(prompts: Any, completions: Any, **_: Any) -> list[float]:
        return [float(index < 2) for index in range(len(completions))]

    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    trainer = train(reward_funcs=by_group, num_generations=2)
    for row in logs(trainer):
        assert row["frac_reward_zero_mean"] == 0.75
        assert row["frac_reward_all_success"] == 0.25
        assert row["success_rate"] == 0.25
        assert row["advantage_mass"] == 0
    assert weight_change(trainer, model, start) == 0


def test_missing_rewards_leave_the_group(train: Any) -> None:
    """[1, 0, None, None]: the mean is 1/2 over the two that were scored, so the advantages are 1, −1, 0, 0."""

    def half_missing(prompts: Any, completions: Any, **_: Any) -> list[float | None]:
        return [[1.0, 0.0, None, None][index % 4] for index in range(len(completions))]

    trainer = train(reward_funcs=half_missing)
    assert list(trainer._logs["advantages"]) == [1.0, -1.0, 0.0, 0.0] * 2
    assert logs(trainer)[0]["success_rate"] == 0.5
    assert logs(trainer)[0]["advantage_mass"] == 1.0
    assert "frac_order_lowered" not in logs(trainer)[0]
    # An order of 3 becomes that of the two that are left: w_2, of which the advantages are 2 and −1.
    for order, lowered in ((3, 1.0), (2, 0.0)):
        trainer = train(reward_funcs=half_missing, advantage_estimator_kwargs={"order": order})
        assert list(trainer._logs["advantages"]) == [2.0, -1.0, 0.0, 0.0] * 2
        assert logs(trainer)[0]["frac_order_lowered"] == lowered


def test_an_order_takes_likelihoods(train: Any) -> None:
    """Without a warning, which would be an error here."""

    def likelihoods(prompts: Any, completions: Any, **_: Any) -> list[float]:
        return [(0.5, 0.25, 1.0, 0.0)[index % 4] for index in range(len(completions))]

    trainer = train(reward_funcs=likelihoods, advantage_estimator_kwargs={"order": 4})
    expected = MaxRL(order=4)(torch.tensor([[0.5, 0.25, 1.0, 0.0]])).flatten().tolist()
    assert list(trainer._logs["advantages"]) == pytest.approx(expected * 2)
    assert logs(trainer)[0]["frac_reward_nonbinary"] == 0.5


def test_several_rewards_are_weighted_and_summed_before_the_estimator(train: Any) -> None:
    """.25·r₁ + .75·r₂ = 1 where both succeed; the threshold .5 asks for the second one."""

    def pattern(*values: float) -> Callable[..., list[float]]:
        def reward(prompts: Any, completions: Any, **_: Any) -> list[float]:
            return [values[index % 4] for index in range(len(completions))]

        return reward

    first, second = pattern(1, 1, 0, 0), pattern(1, 0, 1, 0)
    first.__name__, second.__name__ = "first", "second"
    with pytest.warns(UserWarning, match="neither 0 nor 1"):
        graded = train(reward_funcs=[first, second], reward_weights=[0.25, 0.75])
    expected = MaxRL()(torch.tensor([[1.0, 0.25, 0.75, 0.0]])).flatten().tolist()  # mean 1/2: 1, −.5, .5, −1
    assert list(graded._logs["advantages"]) == expected * 2 == [1.0, -0.5, 0.5, -1.0] * 2
    assert logs(graded)[0]["frac_reward_nonbinary"] == 0.5
    assert logs(graded)[0]["rewards/first/mean"] == 0.5
    threshold = train(reward_funcs=[first, second], reward_weights=[0.25, 0.75], correctness_threshold=0.5)
    assert list(threshold._logs["advantages"]) == [1.0, -1.0, 1.0, -1.0] * 2
    assert logs(threshold)[0]["frac_reward_nonbinary"] == 0


def test_nonbinary_rewards_are_warned_of_once(train: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(reward_funcs=alternating(0.5))
    assert sum("neither 0 nor 1" in str(warning.message) for warning in caught) == 1


def test_a_threshold_is_passed_only_from_above(train: Any) -> None:
    trainer = train(reward_funcs=alternating(2.0), correctness_threshold=2.0)
    assert logs(trainer)[0]["success_rate"] == 0
    trainer = train(reward_funcs=alternating(2.0), correctness_threshold=1.999)
    assert logs(trainer)[0]["success_rate"] == 0.5


def test_a_negative_reward_saves_a_checkpoint_and_names_the_remedies(train: Any, tmp_path: Path) -> None:
    calls = []

    def turns_negative(prompts: Any, completions: Any, **_: Any) -> list[float]:
        calls.append(1)
        return [-1.0 if len(calls) == 3 else float(index % 2) for index in range(len(completions))]

    with pytest.raises(
        RewardError, match=r"correctness_threshold.*stopped at step 2; a checkpoint was saved"
    ):
        train(reward_funcs=turns_negative)
    assert (tmp_path / "checkpoint-2" / "trainer_state.json").is_file()
    # … and the same rewards are no trouble where there is a threshold, or an estimator for real rewards.
    calls.clear()
    train(reward_funcs=turns_negative, correctness_threshold=0.0)
    calls.clear()
    train(reward_funcs=turns_negative, advantage_estimator="rloo")


def turning(later: list[float]) -> Callable[..., list[float]]:
    """Every second rollout succeeds; at step 1 rewards are these, over and over."""

    def reward(completions: Any, trainer_state: Any, **_: Any) -> list[float]:
        pattern = later if trainer_state.global_step == 1 else [0.0, 1.0]
        return [pattern[index % len(pattern)] for index in range(len(completions))]

    return reward


def test_the_checkpoint_of_the_very_step_counts_what_was_spent_since(train: Any, tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="stopped at step 1"):
        train(reward_funcs=turning([-1.0, 1.0]), save_strategy="steps", save_steps=1)
    assert json.loads((tmp_path / "checkpoint-1" / STATE).read_text())["rollouts"] == 8 + 8


def test_a_negative_reward_in_an_evaluation_between_steps_stops_alike(
    train: Any, tmp_path: Path, task: SubsetSum
) -> None:
    fields = {
        "eval_dataset": task_dataset(task, "eval", 4),
        "per_device_eval_batch_size": 4,
        "num_generations_eval": 2,
        "eval_strategy": "steps",
        "eval_steps": 1,
    }
    with pytest.raises(RewardError, match=r"stopped at step 1; a checkpoint was saved"):
        train(reward_funcs=turning([-1.0, 1.0]), **fields)
    assert (tmp_path / "checkpoint-1" / "trainer_state.json").is_file()
    assert json.loads((tmp_path / "checkpoint-1" / STATE).read_text())["rollouts"] == 8


def test_an_evaluation_by_itself_saves_nothing(make_trainer: Any, tmp_path: Path, task: SubsetSum) -> None:
    trainer = make_trainer(
        reward_funcs=alternating(-1.0), eval_dataset=task_dataset(task, "eval", 4), num_generations_eval=2
    )
    with pytest.raises(RewardError) as refused:
        trainer.evaluate()
    assert "checkpoint" not in str(refused.value)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_an_estimator_of_ones_own_that_fails_saves_a_checkpoint(make_trainer: Any, tmp_path: Path) -> None:
    """It divides by a standard deviation, which is 0 at step 1."""

    def standardised(rewards: torch.Tensor) -> torch.Tensor:
        return (rewards - rewards.mean(dim=1, keepdim=True)) / rewards.std(dim=1, keepdim=True)

    trainer = make_trainer(reward_funcs=turning([1.0]), estimator=standardised)
    with pytest.raises(InputError, match=r"(?s)finite advantages.*stopped at step 1; a checkpoint was saved"):
        trainer.train()
    assert (tmp_path / "checkpoint-1" / "trainer_state.json").is_file()


def test_asynchronous_reward_functions_work(train: Any) -> None:
    async def later(prompts: Any, completions: Any, **_: Any) -> list[float]:
        return [float(index % 2) for index in range(len(completions))]

    assert logs(train(reward_funcs=later))[0]["success_rate"] == 0.5


def test_dropout_is_off_while_sampling_and_on_while_training(train: Any) -> None:
    states: dict[str, set[bool]] = {"sampling": set(), "training": set()}

    class Hook(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            dropouts = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
            assert dropouts

            def note(module: Any, inputs: Any) -> None:
                states["training" if torch.is_grad_enabled() else "sampling"].add(module.training)

            for module in dropouts:
                module.register_forward_pre_hook(note)

    train(peft_config=LoraConfig(r=2, lora_dropout=0.5, target_modules=["q_proj"]), callbacks=[Hook()])
    assert states == {"sampling": {False}, "training": {True}}


def test_lora_trains_the_adapter_alone(train: Any, model: Qwen2ForCausalLM) -> None:
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = train(
        reward_funcs=alternating(), peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    )
    moved = {
        name
        for name, p in trainer.model.named_parameters()
        if "lora_B" in name and bool(p.detach().abs().sum())
    }
    assert moved
    base = {
        name.replace("base_model.model.", "").replace(".base_layer", ""): p
        for name, p in trainer.model.named_parameters()
        if "lora" not in name
    }
    assert all(torch.equal(base[name], start[name]) for name in start)


def test_evaluation_groups_by_its_own_number_of_generations(train: Any, task: SubsetSum) -> None:
    """Trained in groups of four, evaluated in groups of two: [1,1], [0,0], [1,0], [0,0] per batch of eight."""

    def scripted(prompts: Any, completions: Any, **_: Any) -> list[float]:
        return [[1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0][index] for index in range(len(completions))]

    trainer = train(
        reward_funcs=scripted,
        eval_dataset=task_dataset(task, "eval", 4),
        eval_strategy="steps",
        eval_steps=3,
        per_device_eval_batch_size=8,
        num_generations_eval=2,
    )
    row = next(row for row in trainer.state.log_history if "eval_success_rate" in row)
    assert row["eval_success_rate"] == 3 / 8
    assert row["eval_frac_reward_zero_mean"] == 2 / 4
    assert row["eval_frac_reward_all_success"] == 1 / 4
    assert row["eval_advantage_mass"] == 2 / 8  # only [1,0] has advantages: 1 and −1


def test_nothing_scored_is_no_success_rate_of_zero(train: Any) -> None:
    def broken(prompts: Any, completions: Any, **_: Any) -> list[None]:
        return [None] * len(completions)

    row = train(reward_funcs=broken).state.log_history[0]
    assert row["success_rate"] is None  # TRL's word for: no value in this window
    assert row["frac_reward_zero_mean"] == 0


def test_the_completions_table_holds_the_advantages_that_were_used(train: Any, tmp_path: Path) -> None:
    trainer = train(reward_funcs=alternating(), log_completions=True, num_completions_to_print=0)
    table = pd.read_parquet(tmp_path / "completions" / "completions_00003.parquet")
    assert table["advantage"].tolist() == [-1.0, 1.0] * 4 == list(trainer._logs["advantages"])


def test_a_rollout_function_is_served(train: Any, tokenizer: Any) -> None:
    def scripted(prompts: list[str], trainer: Any) -> dict[str, Any]:
        ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        answer = [*tokenizer("1 2", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        return {"prompt_ids": ids, "completion_ids": [answer] * len(ids), "logprobs": [[-1.0] * 3] * len(ids)}

    trainer = train(rollout_func=scripted)
    assert set(trainer._logs["completion"]) == {"1 2"}
    assert logs(trainer)[0]["completions/mean_length"] == 3


def test_the_tasks_reasons_are_logged(train: Any) -> None:
    row = logs(train())[0]
    reasons = {name: value for name, value in row.items() if name.startswith("verifier/")}
    assert reasons.pop("verifier/errors") == 0
    assert sum(reasons.values()) == pytest.approx(1 - row["success_rate"])


def test_a_plain_grpo_config_is_refused(tmp_path: Path, model: Any, tokenizer: Any, task: SubsetSum) -> None:
    with pytest.raises(InputError, match="needs a MaxRLConfig"):
        MaxRLTrainer(
            model=model,
            reward_funcs=TaskReward(task),
            args=GRPOConfig(**settings(tmp_path)),  # pyright: ignore[reportArgumentType]
            train_dataset=Dataset.from_dict({"prompt": ["1"]}),
            processing_class=tokenizer,
        )

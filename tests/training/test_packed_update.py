"""The packed update gives TRL's gradient, whatever the loss and however the batch is cut."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tests.training.settings import settings
from torch import Tensor
from transformers import Qwen2ForCausalLM

from maxrl.models import load_policy
from maxrl.tasks import SubsetSum
from maxrl.training import MaxRLConfig, MaxRLTrainer, TaskReward, task_dataset

GROUP = 4


def scripted(task: SubsetSum, tokenizer: Any) -> Any:
    """Rollouts of different lengths, the first of some groups a success, every third group without any."""
    examples = {str(example.prompt): example for example in task.examples("train", 64)}
    dead = {
        str(example.prompt) for number, example in enumerate(task.examples("train", 64)) if number % 3 == 2
    }

    def rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        prompt_ids, completion_ids = [], []
        for index, prompt in enumerate(prompts):
            example = examples[prompt]
            numbers = [str(number) for number in example.truth["numbers"]]
            first = "" if prompt in dead else task.demonstration(example)
            text = [first, numbers[0], " ".join(numbers[:2]), " ".join(numbers)][index % GROUP]
            prompt_ids.append(tokenizer(prompt)["input_ids"])
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            # The last one is cut off at the length, and so has no end of text.
            completion_ids.append(ids * 2 if index % GROUP == 3 else [*ids, tokenizer.eos_token_id])
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": [ids[:5] for ids in completion_ids],
            "logprobs": [[-1.0] * len(ids[:5]) for ids in completion_ids],
        }

    return rollouts


@pytest.fixture
def weights_after(tmp_path: Path, policy_folder: Path, tokenizer: Any, task: SubsetSum) -> Any:
    """Weights and trainer after a few steps of plain SGD on the scripted rollouts."""

    def run(*, peft: bool = False, trainer_class: Any = MaxRLTrainer, **fields: Any) -> tuple[Tensor, Any]:
        torch.manual_seed(0)
        plain = {
            "per_device_train_batch_size": 12,
            "optim": "sgd",
            "learning_rate": 0.3,
            "max_grad_norm": 1e9,
        }
        trainer = trainer_class(
            model=load_policy(str(policy_folder)),
            reward_funcs=TaskReward(task),
            args=MaxRLConfig(**settings(tmp_path, **{**plain, **fields})),
            train_dataset=task_dataset(task, "train", 64),
            processing_class=tokenizer,
            rollout_func=scripted(task, tokenizer),
            peft_config=LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
            if peft
            else None,
        )
        trainer.train()
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters()]), trainer

    return run


CASES: dict[str, dict[str, Any]] = {
    **{loss: {"loss_type": loss} for loss in ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "vespo")},
    "luspo": {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    "kl": {"beta": 0.1},
    "entropy": {"entropy_coef": 0.05},
    "entropy dapo": {"entropy_coef": 0.05, "loss_type": "dapo"},
    "two iterations": {"num_iterations": 2},
    "sequence ratios": {"num_iterations": 2, "importance_sampling_level": "sequence"},
    "masked truncations": {"mask_truncated_completions": True},
    "temperature": {"temperature": 0.7},
    "checkpointed": {"activation_checkpointing": True},
    "lora": {"peft": True},
    "off-policy mask": {"off_policy_mask_threshold": 0.1, "num_iterations": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_the_weights_are_trls(weights_after: Any, case: str) -> None:
    """25 tokens cut groups in two, so that slices are smaller than a group."""
    theirs, _ = weights_after(update_backend="transformers", **CASES[case])
    for budget in (None, 25):
        ours, trainer = weights_after(update_backend="engine", update_token_budget=budget, **CASES[case])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
        assert trainer.packed


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "luspo"])
@pytest.mark.parametrize(
    ("accumulation", "generations"), [(4, 4), (4, 2), (1, 1), (2, 2)], ids=lambda value: str(value)
)
def test_micro_batches_become_one_unit(
    weights_after: Any, loss_type: str, accumulation: int, generations: int
) -> None:
    """Accumulated over micro-batches that cut the groups, TRL's gradient is that of all rows at once."""
    fields = {
        "loss_type": loss_type,
        "per_device_train_batch_size": 6,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": generations,
        "num_generations": 2 if generations == 1 else GROUP,
        "max_steps": 2,
    }
    theirs, _ = weights_after(update_backend="transformers", **fields)
    ours, _ = weights_after(update_backend="engine", update_token_budget=40, **fields)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_an_entropy_bonus_over_two_units_of_a_step_is_logged_once(weights_after: Any) -> None:
    fields = {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 4, "steps_per_generation": 2}
    _, trainer = weights_after(update_backend="engine", entropy_coef=0.05, max_steps=2, **fields)
    logged = [row["entropy_coef"] for row in trainer.state.log_history if "entropy_coef" in row]
    assert logged == [0.05, 0.05]


def test_several_optimizer_steps_per_generation_keep_groups_whole(weights_after: Any) -> None:
    """Three generations of six groups, three steps with two groups each; which come when is left to chance."""
    units: list[list[int]] = []

    class Watched(MaxRLTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            batch = super()._generate_and_score_completions(inputs)
            return {**batch, "row": torch.arange(len(batch["prompt_ids"]))}

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            units.append(inputs["row"].tolist())
            return super().compute_loss(model, inputs, *args, **kwargs)

    fields = {"steps_per_generation": 3, "per_device_train_batch_size": 8, "max_steps": 9}
    weights_after(trainer_class=Watched, update_backend="engine", **fields)
    assert [len(unit) for unit in units] == [8] * 9
    orders = [[row for unit in units[start : start + 3] for row in unit] for start in (0, 3, 6)]
    whole = [list(range(start, start + GROUP)) for start in range(0, 24, GROUP)]
    for order in orders:
        groups = [order[start : start + GROUP] for start in range(0, 24, GROUP)]
        assert groups != whole == sorted(groups)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize(("accumulation", "generations"), [(1, 2), (2, 4)], ids=str)
def test_several_optimizer_steps_per_generation_are_trls_but_for_the_shuffle(
    weights_after: Any,
    monkeypatch: pytest.MonkeyPatch,
    loss_type: str,
    accumulation: int,
    generations: int,
) -> None:
    """TRL shuffles rows, the engine groups: in the order of the batch the weights of every step are the same."""
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count))
    fields = {
        "loss_type": loss_type,
        "per_device_train_batch_size": 12 // accumulation,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": generations,
        "max_steps": 4,
    }
    theirs, _ = weights_after(update_backend="transformers", **fields)
    ours, trainer = weights_after(update_backend="engine", update_token_budget=40, **fields)
    assert trainer.packed
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_rows_without_advantage_are_left_out_where_that_is_exact(weights_after: Any) -> None:
    """Every third group has no success. The metrics say which rows they cover."""
    rows: list[int] = []

    class Watched(MaxRLTrainer):
        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            rows.append(len(inputs["advantages"]))
            return super()._compute_loss(model, inputs)

    _, trainer = weights_after(trainer_class=Watched, update_backend="engine")
    fractions = [row["frac_rows_updated"] for row in trainer.state.log_history if "reward" in row]
    dead = [row["frac_reward_zero_std"] for row in trainer.state.log_history if "reward" in row]
    assert fractions == pytest.approx([1 - share for share in dead])
    assert rows == [round(12 * fraction) for fraction in fractions]
    assert min(fractions) < 1
    for exception in ({"beta": 0.1}, {"entropy_coef": 0.1}):
        rows.clear()
        weights_after(trainer_class=Watched, update_backend="engine", **exception)
        assert set(rows) == {12}


def test_a_batch_without_signal_leaves_gradients_of_zero(weights_after: Any) -> None:
    """Where such steps are not skipped, momentum and weight decay go on as they do in TRL, which back-propagates zeros."""

    class NoReward(MaxRLTrainer):
        def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
            rewards = super()._calculate_rewards(*args, **kwargs)
            self._gathered_rewards = torch.zeros_like(rewards) if self.state.global_step else rewards
            return self._gathered_rewards

    fields = {"optim": "adamw_torch", "weight_decay": 0.1, "trainer_class": NoReward, "learning_rate": 1e-2}
    fields["skip_signalless_steps"] = False
    theirs, _ = weights_after(update_backend="transformers", **fields)
    ours, trainer = weights_after(update_backend="engine", **fields)
    # Adam divides by gradients near zero: noise of the first step is amplified.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    rows = [row for row in trainer.state.log_history if "reward" in row]
    assert [row["frac_rows_updated"] for row in rows][1:] == [0, 0]
    assert rows[1]["entropy"] is None
    assert rows[0]["entropy"] > 0


@pytest.mark.parametrize("case", ["dr_grpo", "kl", "two iterations", "entropy", "entropy dapo"])
def test_metrics_are_means_over_the_tokens_updated(weights_after: Any, case: str) -> None:
    """With nothing left out, in slices or at once, the log is TRL's."""
    fields = {**CASES[case], "beta": CASES[case].get("beta", 1e-6)}
    _, theirs = weights_after(update_backend="transformers", **fields)
    _, ours = weights_after(update_backend="engine", update_token_budget=25, **fields)
    for our_row, their_row in zip(ours.state.log_history, theirs.state.log_history, strict=True):
        for name in their_row.keys() - {"step_time"} - {n for n in their_row if n.startswith("train_")}:
            assert our_row[name] == pytest.approx(their_row[name], abs=1e-5), name


def test_mixed_precision_agrees_roughly(weights_after: Any, policy_folder: Path) -> None:
    start = torch.cat([p.detach().flatten() for p in load_policy(str(policy_folder)).parameters()])
    exact, _ = weights_after(update_backend="engine")
    rough, _ = weights_after(update_backend="engine", bf16=True)
    cosine = torch.nn.functional.cosine_similarity(exact - start, rough - start, dim=0)
    assert not torch.equal(exact, rough)
    assert cosine > 0.999


def test_the_model_is_left_as_it_was(weights_after: Any) -> None:
    _, trainer = weights_after(update_backend="engine")
    model: Qwen2ForCausalLM = trainer.model
    assert model.config._attn_implementation == "sdpa"
    model(input_ids=torch.tensor([[1, 5, 6]]))

"""Dead groups give way to live ones, and all that was drawn is counted."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset, IterableDataset
from tests.training.kinds import LIVE, Rewards, data
from tests.training.runs import Recording, logs
from tests.training.settings import settings

from maxrl.errors import InputError
from maxrl.objectives import RLOO, AdaptiveSwitch, CurveRL, SuccessWeighted
from maxrl.training import MaxRLConfig
from maxrl.training.diagnostics import prompt_id
from maxrl.training.refill import (
    CompletionsTable,
    DrawMetrics,
    Slots,
    further_prompts,
    merge_rows,
    refuse_refill,
)


class HalfDead(Rewards):
    """Of each generation the first half of the groups is live; what rounds draw is dead."""

    def __call__(self, prompts: Any, completions: Any, id: list[str], **_: Any) -> list[float]:
        self.calls.append(id[::4])
        return [float(len(prompts) == 16 and row < 8 and row % 4 == 0) for row in range(len(prompts))]


def prompts_of(trainer: Recording, tokenizer: Any) -> list[str]:
    """Of each group of the last batch, as text."""
    batch = trainer.batches[-1]
    return [
        tokenizer.decode(ids[mask.bool()]).removeprefix("<bos> ")
        for ids, mask in zip(batch["prompt_ids"][::4], batch["prompt_mask"][::4], strict=True)
    ]


def test_dead_groups_are_replaced_and_live_ones_stay(run_kinds: Any, tokenizer: Any) -> None:
    """Two of four are dead; of eight further prompts half are live, so that a few rounds always find two."""
    kinds = ["dead", "live", "dead", "live"] + ["dead", "live"] * 10
    trainer, rewards = run_kinds(kinds, refill_dead_groups=8)
    plain, _ = run_kinds(kinds)
    assert trainer.advantages == [[3, -1, -1, -1] * 4]
    assert prompts_of(trainer, tokenizer) == [LIVE] * 4
    ours, theirs = trainer.batches[0], plain.batches[0]
    for row in (4, 5, 6, 7, 12, 13, 14, 15):  # drawn by the first round, at their places
        length = int(theirs["completion_mask"][row].sum())
        assert (
            ours["completion_ids"][row, :length].tolist() == theirs["completion_ids"][row, :length].tolist()
        )
        assert int(ours["completion_mask"][row].sum()) == length
    first, *rounds = rewards.calls
    assert first == ["0", "1", "2", "3"]
    assert len(rounds) >= 1
    drawn = [number for call in rewards.calls for number in call]
    assert len(set(drawn)) == len(drawn), "without replacement"
    found = [sum(kinds[int(number)] == "live" for number in call) for call in rounds]
    assert sum(found) >= 2
    assert sum(found[:-1]) < 2, "it goes on no longer than it must"
    assert [len(call) for call in rounds] == [2 - sum(found[:number]) for number in range(len(rounds))]
    (row,) = logs(trainer)
    assert row["refill_rounds"] == len(rounds)
    assert row["groups_refilled"] == 2
    assert row["rollouts"] == trainer.progress.rollouts == 4 * len(drawn)
    live = sum(kinds[int(number)] == "live" for number in drawn)
    assert row["success_rate"] == live / len(drawn) / 4, "of all that was drawn"
    assert row["frac_reward_zero_mean"] == pytest.approx(1 - live / len(drawn))
    assert row["reward"] == pytest.approx(live / len(drawn) / 4)
    assert row["groups/live"] == pytest.approx(live / len(drawn))
    assert row["completion_tokens"] == pytest.approx(row["completions/mean_length"] * 4 * len(drawn))
    assert ours["num_items_in_batch"] == ours["completion_mask"].sum()
    assert logs(plain)[0]["rollouts"] == 16
    assert "refill_rounds" not in logs(plain)[0]


def test_the_rounds_are_few_and_the_seeds_differ(run_kinds: Any) -> None:
    """One live prompt among the four, none among the others: two rounds of three, then the dead ones stay."""
    kinds = ["live", *["dead"] * 30]
    trainer, rewards = run_kinds(kinds, refill_dead_groups=2)
    assert [len(call) for call in rewards.calls] == [4, 3, 3]
    assert trainer.advantages == [[3, -1, -1, -1] + [0] * 12]
    assert logs(trainer)[0]["refill_rounds"] == 2
    assert logs(trainer)[0]["groups_refilled"] == 0
    assert logs(trainer)[0]["rollouts"] == 40
    again, same = run_kinds(kinds, refill_dead_groups=2)
    _, others = run_kinds(kinds, refill_dead_groups=2, seed=1)
    assert same.calls == rewards.calls
    assert others.calls != rewards.calls
    assert again.progress == trainer.progress


def test_rounds_draw_other_random_numbers(make_trainer: Any) -> None:
    """One prompt under many ids: if a round drew as the first does, its completions would be the same."""
    seen: list[list[str]] = []

    def never(completions: list[str], **_: Any) -> list[float]:
        seen.append(completions)
        return [float(len(seen) == 3)] * (len(completions) - 1) + [0.0]

    trainer = make_trainer(
        reward_funcs=never, train_dataset=data(["dead"] * 20), refill_dead_groups=2, max_steps=1
    )
    trainer.train()
    assert len(seen) == 3
    assert len({tuple(completions) for completions in seen}) == 3


def test_the_data_set_may_run_out(run_kinds: Any) -> None:
    trainer, rewards = run_kinds(["live", *["dead"] * 5], refill_dead_groups=9)
    assert [len(call) for call in rewards.calls] == [4, 2]
    assert sorted(rewards.calls[0] + rewards.calls[1]) == ["0", "1", "2", "3", "4", "5"]
    assert logs(trainer)[0]["refill_rounds"] == 1


def test_a_group_without_a_token_to_train_on_is_not_live(run_kinds: Any, tokenizer: Any) -> None:
    """Of each draw all but the last two groups are cut off, and TRL masks them."""

    def rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        words = tokenizer("1 2", add_special_tokens=False)["input_ids"]
        whole = [row >= len(prompts) - 8 for row in range(len(prompts))]
        completions = [[*words, tokenizer.eos_token_id] if it else words for it in whole]
        return {
            "prompt_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts],
            "completion_ids": completions,
            "logprobs": [[-1.0] * len(ids) for ids in completions],
        }

    trainer, rewards = run_kinds(
        ["live"] * 12,
        refill_dead_groups=3,
        mask_truncated_completions=True,
        rollout_func=rollouts,
    )
    assert [len(call) for call in rewards.calls] == [4, 2]
    assert trainer.batches[0]["completion_mask"].sum(dim=1).tolist() == [3] * 16
    assert logs(trainer)[0]["groups/live"] == 1, "by its advantages"


@pytest.mark.parametrize(
    ("estimator", "before", "after"),
    [
        # 2 of 16 rollouts succeed at first; with the refills it is 4 of 24: the switch at 15 % sees those.
        (AdaptiveSwitch(below=RLOO(), at=0.15, hysteresis=0.0), RLOO(), {"above": True}),
        # The 4 of 16 that are trained on would pass this one.
        (AdaptiveSwitch(below=RLOO(), at=0.2, hysteresis=0.0), RLOO(), {"above": False}),
        (CurveRL(), CurveRL().given(), {"pass_rates": [[0.25] * 4]}),
    ],
    ids=["passed", "not passed", "curve"],
)
def test_a_memory_advances_once_by_all_that_was_drawn(
    run_kinds: Any, estimator: Any, before: Any, after: Any
) -> None:
    kinds = ["live", "dead", "live", "dead", "live", "live"]
    trainer, rewards = run_kinds(kinds, refill_dead_groups=4, estimator=estimator)
    assert [len(call) for call in rewards.calls] == [4, 2]
    assert trainer.estimating.states == {"": after}
    group = before(torch.tensor([[1.0, 0, 0, 0]]))[0].tolist()
    assert trainer.advantages == [group * 4]


def test_a_sum_over_the_batch_goes_over_what_is_trained_on(run_kinds: Any) -> None:
    """n/Σw = 16/4 for each success, where each draw apart would give 16/2 or 8/2."""
    kinds = ["live", "dead", "live", "dead", "live", "live"]
    trainer, _ = run_kinds(kinds, refill_dead_groups=4, estimator=SuccessWeighted(), rollout_backend="engine")
    assert trainer.advantages == [[4, 0, 0, 0] * 4]
    # So does its loss, −Σ w log π/Σ w.
    [batch] = trainer.batches
    logprobs = (batch["sampling_per_token_logps"] * batch["completion_mask"]).sum(dim=1)
    assert logs(trainer)[0]["weighted_nll"] == pytest.approx(-float(logprobs[::4].mean()), rel=1e-5)


def test_the_table_holds_what_is_trained_on(run_kinds: Any, tmp_path: Path, tokenizer: Any) -> None:
    kinds = ["live", "dead", "live", "dead", *["live"] * 8]
    trainer, _ = run_kinds(kinds, refill_dead_groups=1, log_completions=True)
    table = pd.read_parquet(tmp_path / "completions" / "completions_00001.parquet")
    assert table["prompt"].tolist() == [LIVE] * 16
    assert table["advantage"].tolist() == [3, -1, -1, -1] * 4
    assert table["by_prompt"].tolist() == [1, 0, 0, 0] * 4
    texts = tokenizer.batch_decode(
        [
            ids[mask.bool()]
            for ids, mask in zip(
                trainer.batches[0]["completion_ids"], trainer.batches[0]["completion_mask"], strict=True
            )
        ],
        skip_special_tokens=True,
    )
    assert table["completion"].tolist() == texts


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_old_and_reference_log_probabilities_move_with_their_rows(
    run_kinds: Any, backend: str, tokenizer: Any
) -> None:
    """Of the first batch of a run they are those of the policy as it is: computed anew from the merged batch."""
    kinds = ["live", "dead", "live", "dead", *["live"] * 8]
    trainer, _ = run_kinds(
        kinds, refill_dead_groups=1, rollout_backend=backend, beta=0.1, num_iterations=2, learning_rate=0.0
    )
    batch = trainer.batches[0]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    width = batch["completion_ids"].shape[1]
    with torch.no_grad():
        expected, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width)
    real = batch["completion_mask"].bool()
    for name in ("old_per_token_logps", "ref_per_token_logps"):
        torch.testing.assert_close(batch[name][real], expected[real])


# --- the pieces ----------------------------------------------------------------------------------------------------


def test_slots_keep_to_their_rank() -> None:
    """Two ranks of three places: the first has one dead group, the second two."""
    slots = Slots(torch.tensor([True, False, True, False, True, False]), ranks=2)
    assert slots.wanted == 2
    slots.fill(torch.tensor([True, True, False, True]))  # the first rank needs but one of its two
    assert slots.picks == [[(0, 0), (1, 0), (0, 2)], [(1, 1), (0, 1), (0, 2)]]
    assert (slots.wanted, slots.refilled) == (1, 2)
    slots.fill(torch.tensor([True, True]))
    assert slots.picks[1] == [(1, 1), (0, 1), (2, 0)]
    assert (slots.wanted, slots.refilled) == (0, 3)
    assert list(slots.gathered()) == [(0, 0), (1, 0), (0, 2), (1, 3), (0, 4), (2, 1)]


def test_merged_rows_are_padded_as_trl_pads() -> None:
    """Two draws of two groups of two: the second group of each is taken."""
    one = {
        "prompt_ids": torch.tensor([[5], [5], [6], [6]]),
        "prompt_mask": torch.tensor([[1], [1], [1], [1]]),
        "completion_ids": torch.tensor([[1, 2, 3]] * 4),
        "completion_mask": torch.tensor([[1, 1, 1]] * 4),
        "tool_mask": torch.tensor([[1, 0, 1]] * 4),
        "importance_sampling_ratio": torch.tensor([[0.5]] * 4),
        "advantages": torch.tensor([0.0, 1.0, 2.0, 3.0]),
        "num_items_in_batch": torch.tensor(12),
    }
    two = {
        "prompt_ids": torch.tensor([[9, 7], [9, 7], [0, 8], [0, 8]]),
        "prompt_mask": torch.tensor([[1, 1], [1, 1], [0, 1], [0, 1]]),
        "completion_ids": torch.tensor([[4]] * 4),
        "completion_mask": torch.tensor([[1]] * 4),
        "tool_mask": torch.tensor([[0]] * 4),
        "importance_sampling_ratio": torch.tensor([[0.25]] * 4),
        "advantages": torch.tensor([4.0, 5.0, 6.0, 7.0]),
        "num_items_in_batch": torch.tensor(4),
    }
    merged = merge_rows([one, two], [(1, 1), (0, 1)], num_generations=2, pad_id=-1)
    assert merged["prompt_ids"].tolist() == [[0, 8], [0, 8], [-1, 6], [-1, 6]]
    assert merged["prompt_mask"].tolist() == [[0, 1], [0, 1], [0, 1], [0, 1]]
    assert merged["completion_ids"].tolist() == [[4, -1, -1]] * 2 + [[1, 2, 3]] * 2
    assert merged["completion_mask"].tolist() == [[1, 0, 0]] * 2 + [[1, 1, 1]] * 2
    assert merged["tool_mask"].tolist() == [[0, 1, 1]] * 2 + [[1, 0, 1]] * 2
    assert merged["importance_sampling_ratio"].tolist() == [[0.25]] * 2 + [[0.5]] * 2
    assert merged["advantages"].tolist() == [6, 7, 2, 3]


def test_further_prompts_are_distinct_and_not_taken() -> None:
    rows = data(["live"] * 10)
    counted: Counter[str] = Counter()
    for seed in range(300):
        found = [row["id"] for row in further_prompts(rows, 3, {"0", "1"}, str(seed))]
        assert len(set(found)) == 3
        counted.update(found)
    assert set(counted) == {str(number) for number in range(2, 10)}
    assert max(counted.values()) < 2 * min(counted.values())  # 112 on average, deviation 8
    assert len(further_prompts(rows, 20, {"0"}, "s")) == 9
    doubled = Dataset.from_dict({"prompt": ["1", "1", "2"]})  # no ids: a prompt is its row
    assert len(further_prompts(doubled, 3, set(), "s")) == 2
    answered = doubled.add_column("answer", ["2", "3", "2"])
    assert len(further_prompts(answered, 3, set(), "s")) == 3
    assert [row["answer"] for row in further_prompts(answered, 3, {prompt_id(answered[0])}, "s")] == [
        "3",
        "2",
    ]


def test_no_more_rows_are_read_than_needed() -> None:
    class Counting:
        """A data set of rows that count who asks for them."""

        read = 0

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, index: int) -> dict[str, Any]:
            self.read += 1
            return {"prompt": "1", "id": index}

    rows = Counting()
    further_prompts(rows, 2, {str(number) for number in range(500)}, "s")  # type: ignore[arg-type]
    assert 2 <= rows.read < 30


def test_every_round_of_every_step_draws_its_own(run_kinds: Any) -> None:
    """Half the groups are dead throughout; the ids that a round draws would repeat if its seed did."""
    _, rewards = run_kinds(
        ["live", "dead"] * 2 + ["dead"] * 400,
        refill_dead_groups=2,
        reward_funcs=HalfDead(),
        max_steps=3,
    )
    rounds = [tuple(call) for call in rewards.calls if len(call) == 2]
    assert len(rounds) == 6
    assert len({*rounds}) == 6
    assert len({prompt for call in rounds for prompt in call}) >= 10, "twelve of 400 rows"


def test_metrics_of_draws_become_one_entry() -> None:
    """Means weigh draws by their rows; what was there before stays."""
    metrics = {"reward": [9.0], "num_tokens": [9.0]}
    draws = DrawMetrics(metrics)
    metrics["reward"].append(1.0)
    metrics["completions/min_length"] = [3.0]
    metrics["verifier/minutes"] = [3.0]
    metrics["completions/max_length"] = [5.0]
    metrics["rewards/one/mean"] = [float("nan")]
    metrics["num_tokens"] = [10.0]
    draws.collect(6)
    metrics["reward"].append(0.0)
    metrics["completions/min_length"].append(2.0)
    metrics["verifier/minutes"].append(2.0)
    metrics["completions/max_length"].append(4.0)
    metrics["rewards/one/mean"].append(2.0)
    metrics["num_tokens"] = [11.0]
    draws.collect(2)
    draws.merge()
    assert metrics == {
        "reward": [9.0, 0.75],
        "completions/min_length": [2.0],
        "completions/max_length": [5.0],
        "rewards/one/mean": [2.0],
        "verifier/minutes": [2.75],  # no minimum, whatever its name begins with
        "num_tokens": [11.0],
    }


def test_a_column_that_a_draw_did_not_fill_is_empty_there() -> None:
    def logs() -> dict[str, Any]:
        return {"prompt": [], "completion": [], "advantages": [], "rewards": {"r": []}, "extra": {"old": [0]}}

    held = logs()
    table = CompletionsTable(held)
    for draw, extra in enumerate(({"note": [0, 1, 2, 3]}, {})):
        for name in ("prompt", "completion", "advantages"):
            held[name].extend([f"{name}{draw}{row}" for row in range(4)])
        held["rewards"]["r"].extend([draw] * 4)
        held["extra"].update(extra)
        table.take()
    held["extra"]["note"] = []
    table.put([(1, 0), (0, 1)], num_generations=2)
    assert held["prompt"] == ["prompt10", "prompt11", "prompt02", "prompt03"]
    assert held["rewards"] == {"r": [1, 1, 0, 0]}
    assert held["extra"] == {"note": [None, None, 2, 3]}


# --- refusals ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_refilled_is_refused(make_trainer: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="refill_dead_groups must be at least 0, but is -1"):
        MaxRLConfig(**settings(tmp_path, refill_dead_groups=-1))
    stream = IterableDataset.from_generator(lambda: iter([{"prompt": "1"}]))
    with pytest.raises(InputError, match="the training data is of type IterableDataset"):
        make_trainer(refill_dead_groups=1, train_dataset=stream)


@pytest.mark.parametrize(
    ("has", "says"),
    [
        ({"_is_vlm": True}, "the model is multimodal"),
        ({"tools": [print]}, "tools are in play"),
        ({"environment_factories": {}}, "an environment is in play"),
        ({"num_generations": 5}, "groups of num_generations=5 are split over ranks, which have 16 rows"),
    ],
)
def test_a_trainer_with_anything_in_the_way_is_refused(has: dict[str, Any], says: str) -> None:
    fields = {"per_device_train_batch_size": 8, "steps_per_generation": 2, "refill_dead_groups": 3}
    plain = {"_is_vlm": False, "tools": [], "environment_factories": None, "num_generations": 4}
    trainer = {"args": SimpleNamespace(**fields), "train_dataset": data(["live"]), **plain}
    refuse_refill(SimpleNamespace(**trainer))
    with pytest.raises(
        InputError, match=f"refill_dead_groups=3 is not possible: {says}.*refill_dead_groups=0"
    ):
        refuse_refill(SimpleNamespace(**{**trainer, **has}))

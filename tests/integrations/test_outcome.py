"""What the plug-ins share: rows in any order, groups by id, parameters of a configuration, memory in a file."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.integrations.batches import BATCHES, WITHOUT_MEMORY, batches, expected

from maxrl.errors import InputError, RewardError
from maxrl.integrations.outcome import OutcomeAdvantage, parameters_of
from maxrl.objectives import GRPO, Hybrid, MaxRL


@pytest.mark.parametrize("name", WITHOUT_MEMORY)
def test_every_estimator_gives_each_group_its_advantages_whatever_the_order_of_rows(name: str) -> None:
    compute = OutcomeAdvantage(name)
    for batch in batches(BATCHES // 10, seed=len(name)):
        found = compute(batch.rewards_BT, batch.mask_BT, batch.uids)
        torch.testing.assert_close(found, expected(batch, name), rtol=0, atol=1e-6)
        assert found.dtype == torch.float32


def test_the_ids_may_be_a_list_or_numbers() -> None:
    rewards, mask = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), torch.ones(4, 2)
    for index in (["a", "b", "a", "b"], [3, 7, 3, 7], torch.tensor([3, 7, 3, 7])):
        found = OutcomeAdvantage("maxrl")(rewards, mask, index)
        assert found.tolist() == [[1, 1], [-1, -1], [-1, -1], [1, 1]]


def test_rewards_may_lie_on_any_token_and_a_threshold_makes_them_successes() -> None:
    rewards = torch.tensor([[0.2, 0.6], [0.5, 0.0], [0.9, 0.0], [-1.0, 0.0]])
    found = OutcomeAdvantage("maxrl", {"correctness_threshold": 0.8})(rewards, torch.ones(4, 2), ["a"] * 4)
    assert found[:, 0].tolist() == [1, -1, 1, -1]
    with pytest.raises(RewardError, match="correctness_threshold"):
        OutcomeAdvantage("maxrl")(rewards, torch.ones(4, 2), ["a"] * 4)


def test_what_is_missing_is_no_failure_by_a_threshold_either() -> None:
    rewards = torch.tensor([[0.9], [0.1], [torch.nan], [torch.nan]])
    found = OutcomeAdvantage("maxrl", {"correctness_threshold": 0.5})(rewards, torch.ones(4, 1), ["a"] * 4)
    assert found[:, 0].tolist() == [1, -1, 0, 0]


@pytest.mark.parametrize("threshold", ["half", True, float("nan"), [0.5]])
def test_a_threshold_that_is_no_number_is_refused(threshold: Any) -> None:
    with pytest.raises(InputError, match="is no number; give the least reward"):
        OutcomeAdvantage("maxrl", {"correctness_threshold": threshold})


def test_a_plug_ins_options_may_stand_in_the_name() -> None:
    compute = OutcomeAdvantage("maxrl(order=2, correctness_threshold=0.5)")
    assert (compute.estimator, compute.threshold) == (MaxRL(order=2), 0.5)
    assert OutcomeAdvantage("maxrl", {"correctness_threshold": "0.5"}).threshold == 0.5
    with pytest.raises(InputError, match="order given apart from it"):
        OutcomeAdvantage("maxrl(order=2)", {"order": 3})


def test_rewards_and_mask_of_different_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 1\) and their mask is \(2, 3\)"):
        OutcomeAdvantage("maxrl")(torch.zeros(2, 1), torch.ones(2, 3), ["a", "a"])


def test_without_ids_nothing_is_guessed() -> None:
    with pytest.raises(InputError, match="no ids of prompts"):
        OutcomeAdvantage("maxrl")(torch.zeros(2, 1), torch.ones(2, 1), None)


def test_options_and_mistakes_in_them() -> None:
    assert OutcomeAdvantage("maxrl", {"order": 2}).estimator == MaxRL(order=2)
    with pytest.raises(InputError, match="did you mean 'order'"):
        OutcomeAdvantage("maxrl", {"ordr": 2})
    with pytest.raises(InputError, match="did you mean 'maxrl'"):
        OutcomeAdvantage("maxlr")


@dataclass
class Algorithm:
    """As an engine's dataclass."""

    maxrl: dict[str, Any] | None = field(default_factory=lambda: {"order": 4})


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (None, {}),
        ({}, {}),
        ({"maxrl": {"order": 4}}, {"order": 4}),
        (Algorithm(), {"order": 4}),
        (Algorithm(None), {}),
    ],
)
def test_parameters_come_from_whatever_the_configuration_is(config: Any, found: dict[str, Any]) -> None:
    assert parameters_of(config) == found


def test_a_section_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(InputError, match="mapping of parameters"):
        parameters_of({"maxrl": 4})


@pytest.mark.parametrize("section", ["max_rl", "mmpo", "tail_rl"])
def test_options_under_a_name_that_nobody_reads_are_refused(section: str) -> None:
    with pytest.raises(InputError, match=f"stand under maxrl, and not under {section}"):
        parameters_of({section: {"order": 4}})


def test_a_state_file_must_be_absolute_readable_and_of_use(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with pytest.raises(InputError, match="give an absolute path"):
        OutcomeAdvantage("hybrid", {"steps": 1, "state_file": "run/state.json"})
    with pytest.raises(InputError, match="maxrl has none: leave it out"):
        OutcomeAdvantage("maxrl", {"state_file": str(path)})
    path.write_text("{half")
    with pytest.raises(InputError, match="remove it to begin anew"):
        OutcomeAdvantage("hybrid", {"steps": 1, "state_file": str(path)})(
            torch.ones(2, 1), torch.ones(2, 1), ["a"] * 2
        )


def test_an_estimator_with_memory_keeps_it_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give state_file"):
        OutcomeAdvantage("hybrid", {"steps": 1})
    path = tmp_path / "new" / "state.json"
    rewards, mask = torch.tensor([[1.0], [0.0], [0.0], [0.0]]), torch.ones(4, 1)
    reference, state = Hybrid(first=GRPO(), then=MaxRL(), steps=1), None
    for _ in range(3):  # each time by another process, as a resumed run is one
        compute = OutcomeAdvantage("hybrid", {"steps": 1, "state_file": str(path)})
        advantages, state = reference(rewards[:, 0], state, group_ids=["a"] * 4)
        assert compute(rewards, mask, ["a"] * 4)[:, 0].tolist() == pytest.approx(advantages.tolist())
        assert json.loads(path.read_text()) == state
    assert compute(rewards, mask, ["a"] * 4)[0, 0] == 3  # MaxRL's turn by now

"""Functions that engines call, called as they document it; the engines themselves run in `make test-integrations`."""

import math
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from tests.integrations.batches import BATCHES, WITHOUT_MEMORY, batches, expected

from maxrl.errors import InputError
from maxrl.integrations import skyrl, slime, verl
from maxrl.objectives import ALIASES, ESTIMATORS


def test_verl_on_a_thousand_batches() -> None:
    functions = {name: verl.advantage_function(name) for name in WITHOUT_MEMORY}
    for count, batch in enumerate(batches(BATCHES)):
        name = WITHOUT_MEMORY[count % len(WITHOUT_MEMORY)]
        found, returns = functions[name](
            token_level_rewards=batch.rewards_BT, response_mask=batch.mask_BT, config={}, index=batch.uids,
            reward_baselines=None,
        )  # fmt: skip
        assert returns is found
        torch.testing.assert_close(found, expected(batch, name), rtol=0, atol=1e-6)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Modules of the engine's names with a registry as it documents it: a name taken twice is refused."""
    taken: dict[str, Any] = {"grpo": print, "rloo": print}

    def register_adv_est(name: str) -> Any:
        def decorate(function: Any) -> Any:
            if name in taken:
                raise ValueError(f"{name} has already been registered")
            taken[name] = function
            return function

        return decorate

    parents = ("verl", "verl.trainer", "verl.trainer.ppo", "verl.trainer.ppo.core_algos")
    for name in parents:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    core: Any = sys.modules["verl.trainer.ppo.core_algos"]
    core.ADV_ESTIMATOR_REGISTRY, core.register_adv_est = taken, register_adv_est
    return taken


def test_verl_gets_every_estimator_under_our_names_and_those_it_leaves_free(registry: dict[str, Any]) -> None:
    ours = verl.register()
    assert {f"maxrl/{name}" for name in [*ESTIMATORS, *ALIASES]} <= set(ours)
    assert set(ours) - {f"maxrl/{name}" for name in [*ESTIMATORS, *ALIASES]} == (
        {*ESTIMATORS, *ALIASES} - {"grpo", "rloo"}
    )
    assert registry["grpo"] is print
    assert verl.register() == ours, "a second time does no harm"


def test_verl_finds_us_by_the_entry_point() -> None:
    (point,) = entry_points(group="verl.plugins", name="maxrl")
    assert point.value == "maxrl.integrations.verl:plugin"


def test_loading_the_entry_point_registers_though_the_module_was_there_before(
    registry: dict[str, Any],
) -> None:
    assert "maxrl/maxrl" not in registry
    (point,) = entry_points(group="verl.plugins", name="maxrl")
    point.load()  # as verl does, which calls nothing of it
    assert registry["maxrl/maxrl"].__module__ == "maxrl.integrations.verl"
    with pytest.raises(AttributeError, match="no attribute 'plugins'"):
        _ = verl.plugins  # pyright: ignore[reportAttributeAccessIssue]


def test_skyrl_on_a_thousand_batches() -> None:
    functions = skyrl.functions()
    assert list(functions) == [f"maxrl/{name}" for name in WITHOUT_MEMORY]
    for count, batch in enumerate(batches(BATCHES)):
        name = WITHOUT_MEMORY[count % len(WITHOUT_MEMORY)]
        found, _ = functions[f"maxrl/{name}"](
            token_level_rewards=batch.rewards_BT, response_mask=batch.mask_BT.float(), index=batch.uids.tolist(),
            values=None, grpo_norm_by_std=True, gamma=1.0, lambd=1.0, config=None,
        )  # fmt: skip
        torch.testing.assert_close(found, expected(batch, name), rtol=0, atol=1e-6)


@dataclass
class Sample:
    """What slime's own has of interest here."""

    reward: Any
    group_index: int | None


def test_slime_on_a_thousand_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, batch in enumerate(batches(BATCHES)):
        name = WITHOUT_MEMORY[count % len(WITHOUT_MEMORY)]
        monkeypatch.setenv("MAXRL_ESTIMATOR", name)
        codes = {uid: code for code, uid in enumerate(dict.fromkeys(batch.uids.tolist()))}
        samples = [Sample(float(r), codes[u]) for r, u in zip(batch.rewards_B, batch.uids, strict=True)]
        raw, found = slime.post_process_rewards(SimpleNamespace(), samples)
        assert raw == [sample.reward for sample in samples]
        assert all(type(one) is float for one in found)
        torch.testing.assert_close(torch.tensor(found), expected(batch, name)[:, 0], rtol=0, atol=1e-6)


def test_slimes_rewards_may_be_mappings_and_a_threshold_makes_successes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAXRL_CORRECTNESS_THRESHOLD", "0.5")
    samples = [Sample({"score": score, "other": 9}, 0) for score in (0.7, -1.0, 0.2, 0.4)]
    raw, found = slime.post_process_rewards(SimpleNamespace(reward_key="score"), samples)
    assert raw == [0.7, -1.0, 0.2, 0.4]
    assert found == [3, -1, -1, -1]


def test_what_slime_misses_is_left_out_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXRL_CORRECTNESS_THRESHOLD", "0.5")
    raw, found = slime.post_process_rewards(SimpleNamespace(), [Sample(r, 0) for r in (1.0, 0.0, None)])
    assert math.isnan(raw[2])
    assert found == [1, -1, 0]


def test_what_slime_trains_with_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slime._say_once.cache_clear()
    monkeypatch.setenv("MAXRL_ESTIMATOR", "maxrl(order=2)")
    for _ in range(2):
        slime.post_process_rewards(SimpleNamespace(), [Sample(1.0, 0), Sample(0.0, 0)])
    assert [record.message for record in caplog.records] == [
        "slime trains with maxrl's maxrl(order=2), correctness_threshold None"
    ]


def test_what_slime_cannot_serve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no group_index"):
        slime.post_process_rewards(SimpleNamespace(), [Sample(1.0, None)])
    monkeypatch.setenv("MAXRL_ESTIMATOR", "hybrid(steps=1)")
    with pytest.raises(InputError, match="has memory"):
        slime.post_process_rewards(SimpleNamespace(), [Sample(1.0, 0)])

"""Our estimators in a real verl: plug-in, dispatcher, Ray worker, configuration. Run by `make test-integrations`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
import verl
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tests.integrations.batches import BATCHES, WITHOUT_MEMORY, Batch, batches, expected
from verl import DataProto
from verl.trainer.config.algorithm import AlgoConfig
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY
from verl.trainer.ppo.ray_trainer import compute_advantage

RECIPES = Path(__file__).parents[3] / "recipes" / "verl"
PRINT_OURS = (
    "import verl; from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as R;"
    "print(*sorted(n for n, f in R.items() if f.__module__ == 'maxrl.integrations.verl'))"
)


def data(batch: Batch) -> DataProto:
    return DataProto.from_dict(
        tensors={"token_level_rewards": batch.rewards_BT.clone(), "response_mask": batch.mask_BT},
        non_tensors={"uid": batch.uids},
    )


def advantages(batch: Batch, name: str, config: Any = None) -> torch.Tensor:
    """By verl's own dispatcher."""
    found = compute_advantage(data(batch), adv_estimator=name, num_repeat=4, config=config)
    assert found.batch["returns"].equal(found.batch["advantages"])
    return found.batch["advantages"]


def test_the_entry_point_has_registered_every_estimator_and_taken_nothing() -> None:
    for name in WITHOUT_MEMORY:
        assert ADV_ESTIMATOR_REGISTRY[f"maxrl/{name}"].__module__ == "maxrl.integrations.verl"
    for name in ("maxrl", "max_rl", "tailrl", "tail_rl", "mmpo"):
        assert ADV_ESTIMATOR_REGISTRY[name].__module__ == "maxrl.integrations.verl"
    for name in ("grpo", "rloo", "gae"):  # verl's own
        assert ADV_ESTIMATOR_REGISTRY[name].__module__ == "verl.trainer.ppo.core_algos"


def test_the_dispatcher_gives_on_a_thousand_batches_what_maxrl_objectives_gives() -> None:
    for count, batch in enumerate(batches(BATCHES)):
        name = WITHOUT_MEMORY[count % len(WITHOUT_MEMORY)]
        found = advantages(batch, f"maxrl/{name}", OmegaConf.create({}))
        torch.testing.assert_close(found, expected(batch, name), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["maxrl", "max_rl"])
def test_options_come_from_the_configuration(name: str) -> None:
    batch = next(batches(1, seed=5))
    for section, estimator in (({}, "maxrl"), ({"order": 1}, "maxrl(order=1)")):
        config = OmegaConf.create({"adv_estimator": name, "maxrl": section})
        torch.testing.assert_close(advantages(batch, name, config), expected(batch, estimator))
    assert advantages(batch, name, AlgoConfig()).equal(advantages(batch, name))
    with pytest.raises(Exception, match="did you mean 'order'"):
        advantages(batch, name, OmegaConf.create({"maxrl": {"ordre": 1}}))


def four(*rewards: float) -> Batch:
    """One group."""
    return Batch(
        torch.tensor(rewards, dtype=torch.float32)[:, None], torch.ones(len(rewards), 1, dtype=torch.int64),
        np.array(["a"] * len(rewards), dtype=object),
    )  # fmt: skip


def test_what_verl_does_itself_and_ours_beside_it() -> None:
    # verl's GRPO: (1 − 1/4)/(σ̂ + 1e-6) with σ̂ = 1/2 of divisor N − 1; a lone rollout keeps its raw reward.
    assert advantages(four(1, 0, 0, 0), "grpo")[0, 0].item() == pytest.approx(0.75 / (0.5 + 1e-6), abs=1e-6)
    assert advantages(four(1), "grpo")[0, 0].item() == pytest.approx(1, abs=1e-5)
    assert advantages(four(1, 0, 0, 0), "maxrl")[:, 0].tolist() == [3, -1, -1, -1]
    for rewards in ([0.0] * 4, [1.0] * 4, [1.0]):
        assert advantages(four(*rewards), "maxrl").abs().sum() == 0
    with pytest.raises(Exception, match="correctness_threshold"):
        advantages(four(1, -1, 0, 0), "maxrl")


@ray.remote
def in_a_worker(rewards: list[float]) -> tuple[list[str], list[float]]:
    """What a worker of verl's knows, which imports verl and nothing of ours."""
    import verl  # noqa: F401
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, get_adv_estimator_fn

    function = get_adv_estimator_fn("maxrl")
    mask = torch.ones(len(rewards), 1)
    found, _ = function(
        token_level_rewards=torch.tensor(rewards)[:, None], response_mask=mask, config=None,
        index=np.array(["a"] * len(rewards), dtype=object),
    )  # fmt: skip
    return [name for name in ADV_ESTIMATOR_REGISTRY if name.startswith("maxrl/")], found[:, 0].tolist()


def test_a_ray_worker_has_them_too() -> None:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        names, found = ray.get(in_a_worker.remote([1.0, 0.0, 0.0, 0.0]))
    finally:
        ray.shutdown()
    assert {f"maxrl/{name}" for name in WITHOUT_MEMORY} <= set(names)
    assert found == [3, -1, -1, -1]


@pytest.mark.parametrize(
    ("variables", "there"),
    [
        ({}, True),
        ({"VERL_USE_EXTERNAL_PLUGINS": "none"}, False),
        ({"VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_USE_EXTERNAL_MODULES": "maxrl.integrations.verl"}, True),
    ],
)
def test_verl_loads_us_by_entry_point_or_by_variable(variables: dict[str, str], there: bool) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PRINT_OURS],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("maxrl/maxrl" in run.stdout.split()) == there


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.overrides")), ids=lambda path: path.stem)
def test_the_recipes_compose_with_verls_configuration(path: Path) -> None:
    words = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        config = compose("ppo_trainer", overrides=[*words, "+algorithm.maxrl.order=8"])
    assert config.algorithm.adv_estimator == "maxrl"
    assert config.actor_rollout_ref.actor.loss_agg_mode == "seq-mean-token-sum-norm"
    batch = next(batches(1, seed=1))
    found = advantages(batch, config.algorithm.adv_estimator, config.algorithm)
    torch.testing.assert_close(found, expected(batch, "maxrl"))  # groups here have at most 8 rollouts

"""Our estimators in a real SkyRL: registry, dispatcher, Ray, configuration. Run by `make test-integrations`."""

import typing
from collections.abc import Iterator

import pytest
import ray
import torch
import typing_extensions

# On Python 3.11 pydantic, which SkyRL's configuration is checked by, wants the later one.
typing.TypedDict = typing_extensions.TypedDict

from skyrl.backends.skyrl_train.utils.ppo_utils import (  # noqa: E402
    AdvantageEstimatorRegistry,
    compute_advantages_and_returns,
)
from skyrl.train.config import AlgorithmConfig, SkyRLTrainConfig  # noqa: E402
from skyrl.train.utils.utils import validate_cfg  # noqa: E402
from tests.integrations.batches import BATCHES, WITHOUT_MEMORY, Batch, batches, expected  # noqa: E402

from maxrl.integrations import skyrl  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def registered() -> list[str]:
    return skyrl.register()


def advantages(batch: Batch, name: str) -> torch.Tensor:
    """By SkyRL's own dispatcher."""
    found, returns = compute_advantages_and_returns(
        token_level_rewards=batch.rewards_BT.clone(),
        response_mask=batch.mask_BT.float(),
        index=batch.uids.tolist(),
        adv_estimator=name,
        config=AlgorithmConfig(),
    )
    assert returns.equal(found)
    return found


def group(*rewards: float) -> Batch:
    batch = next(batches(1))
    batch.rewards_BT = torch.tensor(rewards, dtype=torch.float32)[:, None]
    batch.mask_BT = torch.ones(len(rewards), 1, dtype=torch.int64)
    batch.uids = batch.uids[:1].repeat(len(rewards))
    return batch


def test_registered_beside_skyrls_own(registered: list[str]) -> None:
    assert registered == [f"maxrl/{name}" for name in WITHOUT_MEMORY]
    assert set(registered) <= set(AdvantageEstimatorRegistry.list_available())
    assert AdvantageEstimatorRegistry.get("maxrl").__module__.startswith("skyrl.")
    assert skyrl.register() == registered, "a second time does no harm"


def test_the_dispatcher_gives_on_a_thousand_batches_what_maxrl_objectives_gives() -> None:
    for count, batch in enumerate(batches(BATCHES)):
        name = WITHOUT_MEMORY[count % len(WITHOUT_MEMORY)]
        found = advantages(batch, f"maxrl/{name}")
        torch.testing.assert_close(found, expected(batch, name), rtol=0, atol=1e-6)


def test_what_skyrl_does_itself_and_ours_beside_it() -> None:
    # (1 − 1/4)/(1/4 + 1e-6) = 2.999988; a lone rollout keeps its raw reward; a mean of 0 from negative rewards: 1e6.
    assert advantages(group(1, 0, 0, 0), "maxrl")[0, 0].item() == pytest.approx(2.999988, abs=1e-6)
    assert advantages(group(1), "maxrl")[0, 0].item() == 1
    assert advantages(group(1, -1, 0, 0), "maxrl")[0, 0].item() == pytest.approx(1e6, rel=1e-3)
    assert advantages(group(1, 0, 0, 0), "maxrl/maxrl")[:, 0].tolist() == [3, -1, -1, -1]
    assert advantages(group(1), "maxrl/maxrl").abs().sum() == 0
    with pytest.raises(Exception, match="correctness_threshold"):
        advantages(group(1, -1, 0, 0), "maxrl/maxrl")


def test_options_stand_in_the_name_and_a_mistake_is_seen_at_once() -> None:
    assert skyrl.register("maxrl(order=1)") == ["maxrl/maxrl(order=1)"]
    batch = next(batches(1, seed=3))
    torch.testing.assert_close(advantages(batch, "maxrl/maxrl(order=1)"), expected(batch, "maxrl(order=1)"))
    assert advantages(batch, "maxrl/maxrl(order=1)").abs().sum() > 0
    [graded] = skyrl.register("maxrl(correctness_threshold=0.5)")
    assert advantages(group(0.75, -1, 0.25, 0.25), graded)[:, 0].tolist() == [3, -1, -1, -1]
    with pytest.raises(Exception, match="did you mean 'order'"):
        skyrl.register("maxrl(ordr=1)")


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    AdvantageEstimatorRegistry.reset()
    ray.shutdown()


@ray.remote
def in_a_worker() -> list[float]:
    """A process of SkyRL's that knows nothing of ours but what the registry hands it."""
    import typing

    import typing_extensions

    typing.TypedDict = typing_extensions.TypedDict
    from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry

    function = AdvantageEstimatorRegistry.get("maxrl/maxrl")
    found, _ = function(torch.tensor([[1.0], [0.0], [0.0], [0.0]]), torch.ones(4, 1), index=["a"] * 4)
    return found[:, 0].tolist()


@pytest.mark.usefixtures("cluster")
def test_a_ray_worker_gets_them_from_the_registry() -> None:
    AdvantageEstimatorRegistry.sync_with_actor()
    assert ray.get(in_a_worker.remote()) == [3, -1, -1, -1]


def test_skyrls_configuration_accepts_the_name() -> None:
    skyrl.register()
    cfg = SkyRLTrainConfig.from_cli_overrides(
        ["trainer.algorithm.advantage_estimator=maxrl/maxrl", "trainer.logger=console"]
    )
    assert cfg.trainer.algorithm.advantage_estimator == "maxrl/maxrl"
    validate_cfg(cfg)

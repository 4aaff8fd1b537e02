"""Our estimators in a real verl: plug-in, dispatcher, Ray worker, configuration. Run by `make test-integrations`."""

import asyncio
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import ray
import torch
import verl
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from tests.integrations.batches import BATCHES, WITHOUT_MEMORY, Batch, batches, expected
from verl import DataProto
from verl.trainer.config.algorithm import AlgoConfig
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.reward import get_custom_reward_fn, load_reward_manager
from verl.utils import tensordict_utils
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.utils.losses import ppo_loss

from maxrl.integrations import verl_tasks

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


def telling_batch() -> Batch:
    """Groups of 8, 8, 8, 5 and 8 in which the orders differ: where all advantages are zero, a test proves nothing."""
    batch = next(batches(1, seed=4))
    default = expected(batch, "maxrl")
    for other in ("maxrl(order=1)", "maxrl(order=8)"):
        assert not torch.allclose(default, expected(batch, other), atol=0.1)
    assert default.abs().max() > 1
    return batch


@pytest.mark.parametrize("name", ["maxrl", "max_rl"])
def test_options_come_from_the_configuration(name: str) -> None:
    batch = telling_batch()
    for section, estimator in (({}, "maxrl"), ({"order": 1}, "maxrl(order=1)")):
        config = OmegaConf.create({"adv_estimator": name, "maxrl": section})
        torch.testing.assert_close(advantages(batch, name, config), expected(batch, estimator))
    assert advantages(batch, name, AlgoConfig()).equal(advantages(batch, name))
    with pytest.raises(Exception, match="did you mean 'order'"):
        advantages(batch, name, OmegaConf.create({"maxrl": {"ordre": 1}}))


def test_a_threshold_and_a_memory_come_from_the_configuration_too(tmp_path: Path) -> None:
    graded = four(0.75, -1, 0.25, 0.25)
    config = OmegaConf.create({"maxrl": {"correctness_threshold": 0.5}})
    assert advantages(graded, "maxrl", config)[:, 0].tolist() == [3, -1, -1, -1]
    state = tmp_path / "state.json"
    config = OmegaConf.create({"maxrl": {"steps": 1, "state_file": str(state)}})
    first = advantages(four(1, 0, 0, 0), "maxrl/hybrid", config)[:, 0]  # GRPO's turn, then MaxRL's
    assert first[0].item() == pytest.approx(1.5, abs=1e-3)
    assert advantages(four(1, 0, 0, 0), "maxrl/hybrid", config)[:, 0].tolist() == [3, -1, -1, -1]
    assert state.is_file()
    with pytest.raises(Exception, match="stand under maxrl, and not under mmpo"):
        advantages(four(1, 0), "maxrl/mmpo", OmegaConf.create({"mmpo": {"order": 2}}))


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


def recipe(path: Path, *more: str) -> DictConfig:
    """verl's configuration with a recipe's overrides, and more."""
    words = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        return compose("ppo_trainer", overrides=[*words, *more])


each_recipe = pytest.mark.parametrize("path", sorted(RECIPES.glob("*.overrides")), ids=lambda path: path.stem)


@each_recipe
def test_the_recipes_compose_with_verls_configuration(path: Path) -> None:
    config = recipe(path, "+algorithm.maxrl.order=8")
    assert config.algorithm.adv_estimator == "maxrl"
    actor, trainer = config.actor_rollout_ref.actor, config.trainer
    assert actor.loss_agg_mode == "seq-mean-token-sum-norm"
    assert actor.loss_scale_factor == config.data.max_response_length
    assert config.data.filter_overlong_prompts
    assert (trainer.save_freq, trainer.test_freq, trainer.val_before_train) == (50, 50, True)
    assert list(trainer.logger) == ["console"]
    batch = telling_batch()
    found = advantages(batch, config.algorithm.adv_estimator, config.algorithm)
    # A group of 5 has no order above 5; `expected` takes each group by itself.
    torch.testing.assert_close(found, expected(batch, "maxrl(order=8)"))


CRASHING = """
from dataclasses import dataclass
from typing import ClassVar
from maxrl.tasks import Example, Task, Verdict

@dataclass(frozen=True, kw_only=True)
class Crashing(Task):
    name: ClassVar[str] = "crashing"
    def examples(self, split, count, *, seed=0, start=0):
        return [Example(id=str(i), prompt="Say yes.", truth={}) for i in range(start, start + count)]
    def score(self, truth, completion):
        if completion == "crash":
            raise KeyError("its own")
        return Verdict(success=completion == "yes", reward=float(completion == "yes"))
"""


def asked(score: Any, row: dict[str, Any], completion: str) -> float:
    """As verl's reward manager calls the function."""
    return score(
        data_source=row["data_source"],
        solution_str=completion,
        ground_truth=row["reward_model"]["ground_truth"],
        extra_info={**row["extra_info"], "num_turns": 2, "rollout_reward_scores": {}},
    )


@each_recipe
def test_verls_loader_finds_our_reward_in_the_recipes(path: Path) -> None:
    score = get_custom_reward_fn(recipe(path))
    assert score is not None
    row = verl_tasks.rows("math", {"train_data": "project"}, "train", 1, 0)[0]
    answer = json.loads(row["reward_model"]["ground_truth"])["answer"]
    assert asked(score, row, f"So it is \\boxed{{{answer}}}.") == 1.0
    assert asked(score, row, "So it is \\boxed{-12345}.") == 0.0
    assert asked(score, row, f"#### no\n{answer}") == 0.0


class Letters:
    """As much of a tokenizer as verl's data set and reward manager ask for."""

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> list[int]:
        return [ord(letter) for message in messages for letter in message["content"]]

    def decode(self, ids: torch.Tensor, skip_special_tokens: bool) -> str:
        return "".join(map(chr, ids.tolist()))


def test_verls_data_set_reads_our_file_and_leaves_out_what_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    path = tmp_path / "train.parquet"
    words = ["--task", "math", "--parameter", "train_data=project", "--count", "20", "--out", str(path)]
    assert verl_tasks.main(words) == 0
    rows = verl_tasks.rows("math", {"train_data": "project"}, "train", 20, 0)
    sizes = [len(row["prompt"][0]["content"]) for row in rows]
    limit = sorted(sizes)[10]
    more = [f"data.max_prompt_length={limit}", f"+data.cache_dir={tmp_path}"]
    config = recipe(RECIPES / "gsm8k.overrides", *more).data
    found = RLHFDataset(str(path), Letters(), config)
    kept = [row for row, size in zip(rows, sizes, strict=True) if size <= limit]
    assert 0 < len(kept) < 20
    assert [found[i]["raw_prompt"] for i in range(len(found))] == [row["prompt"] for row in kept]
    for name in ("data_source", "reward_model", "extra_info"):
        assert [found[i][name] for i in range(len(found))] == [row[name] for row in kept]


def by_reward_manager(config: DictConfig, row: dict[str, Any], completion: str) -> float:
    """The reward that verl's own manager gets for one completion, from its pool of threads."""
    manager = load_reward_manager(config, Letters())
    ids = torch.tensor([list(map(ord, completion))])
    data = DataProto.from_dict(
        tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={
            name: np.array([row[name]], dtype=object)
            for name in ("data_source", "reward_model", "extra_info")
        },
    )
    manager.loop = asyncio.new_event_loop()
    try:
        return manager.loop.run_until_complete(manager.run_single(data))["reward_score"]
    finally:
        manager.loop.close()


def test_a_crash_of_the_verifier_leaves_its_group_by_verls_dispatcher(tmp_path: Path) -> None:
    task = tmp_path / "crashing.py"
    task.write_text(CRASHING)
    config = recipe(RECIPES / "gsm8k.overrides")
    row = verl_tasks.rows(str(task), {}, "train", 1, 0)[0]
    rewards = [by_reward_manager(config, row, text) for text in ("yes", "crash", "no", "no", "no")]
    assert math.isnan(rewards[1])
    assert [*rewards[:1], *rewards[2:]] == [1.0, 0.0, 0.0, 0.0]
    assert advantages(four(*rewards), "maxrl", config.algorithm)[:, 0].tolist() == [3, 0, -1, -1, -1]
    assert advantages(four(1, 0, 0, 0), "maxrl", config.algorithm)[:, 0].tolist() == [3, -1, -1, -1]
    theirs = compute_advantage(data(four(*rewards)), adv_estimator="grpo", num_repeat=5)
    assert theirs.batch["advantages"].isnan().all()  # the whole group


LENGTHS, ADVANTAGES = [2, 2, 10, 10], [1.0, -1.0, 1.0, -1.0]


def nested(rows: list[Any]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.as_tensor(row) for row in rows], layout=torch.jagged)


def token_gradients(config: DictConfig, parts: list[list[int]]) -> list[torch.Tensor]:
    """Of verl's loss with respect to each rollout's log-probabilities (length,), its rollouts cut into micro-batches."""
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    gradients = {}
    for part in parts:
        # One more at the start: verl's log-probabilities go over prompt and response, and the prompt has one token.
        leaves = [torch.zeros(LENGTHS[i] + 1, requires_grad=True) for i in part]
        fields = {"prompts": nested([[1]] * len(part))}
        for name, value in (("responses", 1), ("response_mask", 1), ("old_log_probs", 0.0)):
            fields[name] = nested([[value] * LENGTHS[i] for i in part])
        fields["advantages"] = nested([[ADVANTAGES[i]] * LENGTHS[i] for i in part])
        data = TensorDict(fields, batch_size=len(part))
        tensordict_utils.assign_non_tensor(
            data, dp_size=1, batch_num_tokens=sum(LENGTHS), global_batch_size=len(LENGTHS)
        )
        loss, _ = ppo_loss(
            actor, {"log_probs": torch.nested.as_nested_tensor(leaves, layout=torch.jagged)}, data
        )
        loss.backward()
        gradients.update({i: leaf.grad[: LENGTHS[i]] for i, leaf in zip(part, leaves, strict=True)})
    return [gradients[i] for i in range(len(LENGTHS))]


@each_recipe
def test_the_recipes_gradient_does_not_depend_on_the_micro_batches(path: Path) -> None:
    config = recipe(path)
    whole, cut = token_gradients(config, [[0, 1, 2, 3]]), token_gradients(config, [[0, 1], [2, 3]])
    each = 1 / (len(LENGTHS) * config.data.max_response_length)
    for found, again, length, advantage in zip(whole, cut, LENGTHS, ADVANTAGES, strict=True):
        torch.testing.assert_close(found, torch.full((length,), -advantage * each))
        assert found.equal(again)
    # Without the factor: 4 rollouts, and the longest response of each micro-batch.
    plain = recipe(path, "actor_rollout_ref.actor.loss_scale_factor=null")
    assert token_gradients(plain, [[0, 1, 2, 3]])[0][0].item() == pytest.approx(-1 / (4 * 10))
    assert token_gradients(plain, [[0, 1], [2, 3]])[0][0].item() == pytest.approx(-1 / (4 * 2))
    # As the recipes' comments say of token-mean: 24 tokens of the whole mini-batch.
    mean = recipe(path, "actor_rollout_ref.actor.loss_agg_mode=token-mean")
    assert token_gradients(mean, [[0, 1], [2, 3]])[0][0].item() == pytest.approx(-1 / 24)

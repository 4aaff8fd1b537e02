"""Which back-end serves the trainer, that it says why not, and that ranks and resumed runs draw the same rollouts."""

import logging
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.training.settings import settings
from transformers import Qwen2Config, Qwen2ForCausalLM

from maxrl.errors import InputError
from maxrl.training import MaxRLConfig, MaxRLTrainer, TaskReward, task_dataset
from maxrl.training.rollouts import evaluation_requests, training_requests


@pytest.fixture
def make(tmp_path: Any, model: Qwen2ForCausalLM, tokenizer: Any, task: Any) -> Any:
    """A trainer that has not started."""

    def make(*, policy: Any = None, extra: dict[str, Any] | None = None, **fields: Any) -> MaxRLTrainer:
        return MaxRLTrainer(
            model=policy or model,
            reward_funcs=TaskReward(task),
            args=MaxRLConfig(**settings(tmp_path, **fields)),
            train_dataset=task_dataset(task, "train", 64),
            processing_class=tokenizer,
            **(extra or {}),
        )

    return make


def test_the_engine_serves_what_it_can(make: Any) -> None:
    trainer = make()
    assert trainer.engine is not None
    assert trainer.packed


def test_the_engine_samples_in_the_precision_of_training(make: Any) -> None:
    assert make().engine.dtype is None  # the model's own
    assert make(bf16=True).engine.dtype is torch.bfloat16


def test_transformers_alone_leaves_all_to_trl(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(rollout_backend="transformers")
    assert trainer.engine is None
    assert not trainer.packed
    assert not caplog.messages
    assert make(rollout_backend="transformers", update_backend="engine").packed


def windowed(tokenizer: Any) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        layer_types=["full_attention", "sliding_attention"], use_sliding_window=True, sliding_window=4,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def test_auto_says_why_not(make: Any, tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="maxrl"):
        trainer = make(policy=windowed(tokenizer))
    assert trainer.engine is None
    assert not trainer.packed
    assert caplog.messages == [
        "rollouts come from transformers, not from the shared-prefix engine: "
        "it has layers of another kind than full attention (sliding_attention)",
        "the update is TRL's, not from the shared-prefix engine: "
        "it has layers of another kind than full attention (sliding_attention)",
    ]
    trainer.train()


def test_what_one_process_cannot_do_none_does(
    make: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would meet at different places otherwise."""
    another = torch.ones(1, dtype=torch.long)
    monkeypatch.setattr(Accelerator, "gather", lambda self, own: torch.cat([own, another]))
    with caplog.at_level(logging.WARNING, logger="maxrl"):
        trainer = make()
    assert trainer.engine is None
    assert not trainer.packed
    assert caplog.messages[0].endswith("shared-prefix engine: another process cannot use it")


def no_rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"extra": {"rollout_func": no_rollouts}}, "rollout_func draws them"),
        ({"repetition_penalty": 1.2}, "repetition_penalty is 1.2"),
        ({"generation_kwargs": {"num_beams": 2}}, "generation_kwargs has num_beams"),
        ({"max_completion_length": None, "loss_type": "grpo"}, "max_completion_length is not set"),
    ],
)
def test_what_rollouts_stand_against(
    make: Any, options: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="maxrl"):
        trainer = make(**options)
    assert trainer.engine is None
    assert trainer.packed
    assert caplog.messages == [
        f"rollouts come from transformers, not from the shared-prefix engine: {reason}"
    ]
    with pytest.raises(InputError, match=f"rollout_backend='engine' is not possible: {reason}"):
        make(rollout_backend="engine", **options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"top_entropy_quantile": 0.2}, "top_entropy_quantile ranks tokens"),
        ({"use_adaptive_entropy": True}, "use_adaptive_entropy steers"),
        ({"torch_compile": True}, "torch_compile would compile anew"),
        ({"optim": "galore_adamw_layerwise", "optim_target_modules": "all-linear"}, "the optimizer galore"),
        ({"cast_lm_head_to_fp32": True}, "cast_lm_head_to_fp32 is TRL's"),
        ({"gradient_accumulation_steps": 3, "steps_per_generation": 2}, "neither of steps_per_generation"),
    ],
)
def test_what_the_update_stands_against(make: Any, options: dict[str, Any], reason: str) -> None:
    trainer = make(**options)
    assert trainer.engine is not None
    assert not trainer.packed
    with pytest.raises(InputError, match=f"update_backend='engine' is not possible: {reason}"):
        make(update_backend="engine", **options)


@pytest.mark.parametrize("option", ["rollout_backend", "update_backend"])
def test_unknown_names_are_refused(make: Any, option: str) -> None:
    with pytest.raises(InputError, match=rf"unknown {option} 'engin'.*did you mean 'engine'"):
        make(**{option: "engin"})


def test_vllm_is_one_choice_under_two_names(tmp_path: Any) -> None:
    fields: dict[str, Any] = {"output_dir": str(tmp_path), "report_to": "none"}
    assert MaxRLConfig(rollout_backend="vllm", **fields).use_vllm
    with pytest.raises(InputError, match="contradicts use_vllm=True"):
        MaxRLConfig(rollout_backend="engine", use_vllm=True, **fields)


def test_a_rollout_has_the_same_seed_wherever_it_is_drawn() -> None:
    """Six rows on each of two ranks, groups of four: the middle group is split between them."""
    rows = [[1, 5]] * 4 + [[1, 6, 7]] * 4 + [[1, 5]] * 4
    options: dict[str, Any] = {"num_generations": 4, "seed": 3, "generation": (2, 0)}
    alone = training_requests(rows, first_row=0, **options)
    assert [request.rollouts for request in alone] == [range(4)] * 3
    first = training_requests(rows[:6], first_row=0, **options)
    second = training_requests(rows[6:], first_row=6, **options)
    assert [r.rollouts for r in first + second] == [range(4), range(2), range(2, 4), range(4)]
    assert [r.seed for r in first + second] == [alone[0].seed, alone[1].seed, alone[1].seed, alone[2].seed]
    assert len({request.seed for request in alone}) == 3, "the same prompt again is another group"
    later = training_requests(rows, first_row=0, **{**options, "generation": (2, 1)})
    other = training_requests(rows, first_row=0, **{**options, "seed": 4})
    assert len({request.seed for request in alone + later + other}) == 9


def test_evaluations_draw_with_the_same_numbers() -> None:
    options: dict[str, Any] = {"num_generations": 2, "seed": 3}
    first = evaluation_requests([[1, 5]] * 2 + [[1, 6]] * 2 + [[1, 5]] * 2, first_row=0, **options)
    assert len({request.seed for request in first}) == 3, "the same prompt again is another group"
    assert evaluation_requests([[1, 6]] * 2 + [[1, 5]] * 2, first_row=2, **options) == first[1:]
    other = evaluation_requests([[1, 7]] * 2, first_row=0, **options)
    assert other[0].seed != first[0].seed


def watch(trainer: MaxRLTrainer) -> list[list[int]]:
    """Seeds of each request to the engine from now on."""
    assert trainer.engine is not None
    seen: list[list[int]] = []
    generate = trainer.engine.generate

    def watched(*inputs: Any, seeds: Any, **more: Any) -> Any:
        seen.append(list(seeds))
        return generate(*inputs, seeds=seeds, **more)

    trainer.engine.generate = watched  # pyright: ignore[reportAttributeAccessIssue]
    return seen


@pytest.mark.parametrize(
    ("fields", "generations"),
    [
        ({"steps_per_generation": 1, "max_steps": 3}, 3),
        ({"num_iterations": 2, "max_steps": 4}, 2),
        (
            {"steps_per_generation": 1, "gradient_accumulation_steps": 2, "max_steps": 2},
            4,
        ),  # two for each step
    ],
    ids=["one a step", "two steps each", "two a step"],
)
def test_every_generation_draws_with_numbers_of_its_own(
    make: Any, fields: dict[str, Any], generations: int
) -> None:
    runs = []
    for _ in range(2):
        trainer = make(**fields)
        runs.append(watch(trainer))
        trainer.train()
    first, second = runs
    assert [len(seeds) for seeds in first] == [2] * generations  # groups
    assert len({seed for seeds in first for seed in seeds}) == 2 * generations
    assert first == second


def test_the_sampler_sees_what_trl_would(make: Any, model: Qwen2ForCausalLM) -> None:
    """Log-probabilities that rollouts were drawn with reach the batch, and are those of the model."""
    seen: list[dict[str, Any]] = []
    trainer = make(max_steps=1, temperature=0.8, learning_rate=0.0)
    original = trainer._generate_and_score_completions

    def watched(inputs: Any) -> Any:
        batch = original(inputs)
        seen.append(batch)
        return batch

    trainer._generate_and_score_completions = watched
    trainer.train()
    [batch] = seen
    assert batch["sampling_per_token_logps"].shape == batch["completion_ids"].shape
    with torch.no_grad():
        fresh, _, _ = trainer._get_per_token_logps_and_entropies(
            model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            batch["completion_ids"].shape[1],
        )
    torch.testing.assert_close(
        fresh * batch["completion_mask"], batch["sampling_per_token_logps"], rtol=0, atol=1e-5
    )


def test_evaluation_in_training_uses_the_engine(make: Any, task: Any) -> None:
    """With the same random numbers every time."""
    trainer = make(extra={"eval_dataset": task_dataset(task, "eval", 2)}, per_device_eval_batch_size=8)
    seen = watch(trainer)
    rates = [trainer.evaluate()["eval_success_rate"] for _ in range(2)]
    first, second = seen
    assert len(set(first)) == 2  # problems
    assert first == second
    assert rates[0] == rates[1]

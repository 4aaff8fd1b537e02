"""`MaxRLConfig`: TRL's `GRPOConfig` plus the choice of estimator."""

import json
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from transformers.utils import is_torch_bf16_gpu_available
from trl import GRPOConfig

from maxrl.engine import cpu_multiplies_bf16
from maxrl.errors import InputError, unknown_name
from maxrl.objectives import ESTIMATORS, GRPO, AnyEstimator, EstimatorWithMemory, as_estimator
from maxrl.training.aggregation import AGGREGATIONS, trl_loss_type
from maxrl.training.task_settings import Composition, TaskSettings, check_rows, read_task_settings

LOSS_TYPES = (*AGGREGATIONS, "grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")
"""Ours and TRL's names for the loss and how it is aggregated over tokens."""

ROLLOUT_BACKENDS = ("auto", "engine", "transformers", "vllm")
UPDATE_BACKENDS = ("auto", "engine", "transformers")
OVERLONG = ("keep", "zero", "drop")

LEAST = {
    "learning_rate": 0.0,
    "beta": 0.0,
    "epsilon": 0.0,
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
    "top_k": 0,
    "num_iterations": 1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 1,
    "max_completion_length": 1,
    "update_token_budget": 1,
    "refill_dead_groups": 0,
}
"""The least value of each number, infinity and NaN excluded."""


@dataclass
class MaxRLConfig(GRPOConfig):
    """Configuration of `MaxRLTrainer`: every option of TRL's `GRPOConfig`, and these.

    Args:
        advantage_estimator (`str`, defaults to `"maxrl"`):
            Name of the advantage estimator: `maxrl` (or `max_rl`), `grpo`, `rloo`, `dr_grpo`, `reinforce`,
            `pass_at_k`, `mmpo`, `power_weight`, `tail_rl`, `curve_rl`, `success_weighted`, `hybrid`, `adaptive_switch`,
            alone or with options, as `maxrl(order=16)`; or a function of your own as `module:function`. An instance or a
            callable goes to `MaxRLTrainer(estimator=…)`.
        advantage_estimator_kwargs (`dict`, *optional*):
            Options of the estimator, for example `{"order": 16}` or `{"no_success": "penalize"}` for `maxrl`.
        correctness_threshold (`float`, *optional*):
            Turns graded rewards into success: a rollout succeeds where its (weighted, summed) reward is greater
            than the threshold; the estimator then sees 1 for success and 0 for failure.
        task_settings (`dict`, *optional*):
            For several tasks in one run: for each value of the data set's column `task` what it sets for itself, of `share`
            (of the groups, in proportion to the others'; 1), `num_generations`, `advantage_estimator`,
            `advantage_estimator_kwargs` and `correctness_threshold`. Every generation batch then holds whole groups of
            every task in this ratio. For example `{"math": {"share": 2, "num_generations": 16}, "code":
            {"advantage_estimator": "grpo"}}`.
        skip_signalless_steps (`bool`, defaults to `True`):
            Leave weights and optimizer state as they are in a step in which no rollout of any process has an advantage.
            Momentum and weight decay (and a KL penalty) would move them without any signal.
        refill_dead_groups (`int`, defaults to 0):
            Rounds in which further prompts are drawn in place of groups that carry no signal, until all do. Every rollout
            so drawn counts in `rollouts`, the budget that comparisons use. A run in which a whole batch and all its rounds
            have no live group stops.
        overlong (`str`, defaults to `"keep"`):
            What a rollout that was cut off at `max_completion_length` counts as: `"keep"`, whatever its reward says;
            `"zero"`, a failure; `"drop"`, missing: it leaves the group's statistics and has no advantage.
        reward_timeout (`float`, defaults to 600):
            Seconds that a call of a reward function may take. A call that takes longer, raises or returns nonsense is made
            again row by row, each with its share of the time, and the rollouts at fault leave their groups.
        loss_type (`str`, defaults to `"dr_grpo"`):
            How token losses are aggregated. The theory sums log-probabilities over the tokens of a rollout and
            averages over rollouts: `"rollout_sum"`. `"constant"` (in TRL `"dr_grpo"`) divides that by
            `max_completion_length` and so keeps the estimator unbiased up to a scale. `"token_mean"` (TRL's default,
            `"dapo"`) divides by the number of tokens in the batch, which makes every rollout's weight depend on the
            lengths of the others; `"rollout_mean"` (`"grpo"`) divides a rollout's by its own, which prefers short
            successes and long failures. Any other loss of TRL's is taken, too.
        scale_rewards (`str`, *optional*):
            TRL's own rescaling of advantages. The estimator decides that here, so leave it unset; a value that
            says the same as the estimator (`"group"` with `grpo`, `"none"` with the others) is accepted, one
            that contradicts it is refused.
        rollout_backend (`str`, defaults to `"auto"`):
            What draws the rollouts. `"engine"`: the shared-prefix engine, which reads each prompt once however many
            rollouts go on from it. `"transformers"`: `generate`, and TRL's own update with it. `"vllm"`: TRL's vLLM,
            as `use_vllm` does. `"auto"`: vLLM where `use_vllm` is set, else the engine where it can serve the model
            and no tools, environment or `rollout_func` is in play, else transformers, and a line that says why.
        update_backend (`str`, defaults to `"auto"`):
            What computes log-probabilities and gradients: `"engine"`, with each prompt forwarded once and rows of
            zero advantage left out where that is exact, or `"transformers"`, TRL's own. `"auto"`: the engine where
            it can, unless `rollout_backend` is `"transformers"`.
        update_token_budget (`int`, *optional*):
            Most tokens that the engine forwards and back-propagates at once; bounds the memory of an update
            whatever the batch. 4,096 on a CPU and 32,768 on a GPU by default.
        bf16 (`bool`, *optional*):
            As in TRL, which turns it on by default, except that it stays off on a machine that does not multiply faster
            in bfloat16.

    Refused when the configuration is made, with an `InputError` that names the remedy: an estimator that does not
    exist or options it does not have, `num_generations < 2` (a group of one carries no signal),
    `multi_objective_aggregation="normalize_then_sum"` (it divides each reward by its own standard deviation before
    the estimator could see it), and a contradicting `scale_rewards`.
    """

    _VALID_DICT_FIELDS: ClassVar = [
        *GRPOConfig._VALID_DICT_FIELDS,
        "advantage_estimator_kwargs",
        "task_settings",
    ]

    advantage_estimator: str = field(
        default="maxrl",
        metadata={
            "help": f"Advantage estimator: {', '.join(ESTIMATORS)}; with options as maxrl(order=16), or your own as "
            "module:function."
        },
    )
    advantage_estimator_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": 'Options of the estimator as a mapping, e.g. \'{"no_success": "penalize"}\'.'},
    )
    correctness_threshold: float | None = field(
        default=None,
        metadata={
            "help": "A rollout succeeds where its reward is greater than this; turns graded rewards into 0 and 1."
        },
    )
    task_settings: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "For several tasks in one run, by the data set's column `task`: share, num_generations, "
            "advantage_estimator, advantage_estimator_kwargs, correctness_threshold of each, as a mapping of mappings."
        },
    )
    rollout_backend: str = field(
        default="auto",
        metadata={
            "help": "What draws the rollouts: engine (shared prefixes), transformers (generate, and TRL's update), vllm, "
            "or auto: the engine where it can serve the model, else transformers."
        },
    )
    update_backend: str = field(
        default="auto",
        metadata={
            "help": "What computes log-probabilities and gradients: engine (each prompt once), transformers (TRL's own), "
            "or auto: the engine where it can, unless rollout_backend is transformers."
        },
    )
    update_token_budget: int | None = field(
        default=None,
        metadata={"help": "Most tokens the engine back-propagates at once; 4096 on a CPU, 32768 on a GPU."},
    )
    skip_signalless_steps: bool = field(
        default=True,
        metadata={"help": "Leave weights and optimizer state untouched in a step in which no group is live."},
    )
    refill_dead_groups: int = field(
        default=0,
        metadata={
            "help": "Rounds in which further prompts are drawn in place of groups without signal; every rollout counts."
        },
    )
    overlong: str = field(
        default="keep",
        metadata={
            "help": "Rollouts cut off at max_completion_length: keep their reward, zero (a failure), or drop (missing)."
        },
    )
    reward_timeout: float = field(
        default=600.0,
        metadata={
            "help": "Seconds that a call of a reward function may take; the rollouts that it hangs on leave their groups."
        },
    )
    loss_type: str = field(
        default="dr_grpo",
        metadata={
            "help": "Aggregation of token losses: rollout_sum (what the theory says), constant (that over "
            "max_completion_length; TRL's dr_grpo), token_mean (over the tokens of the batch; TRL's dapo), rollout_mean "
            "(over each rollout's own; TRL's grpo), or any loss of TRL's."
        },
    )
    scale_rewards: str | None = field(
        default=None,
        metadata={
            "help": "Leave unset: the estimator decides the scaling. A contradicting value is refused."
        },
    )

    def __post_init__(self) -> None:
        if self.num_generations is None or self.num_generations < 2:
            raise InputError(
                f"num_generations must be at least 2, but is {self.num_generations}: a group of one rollout has no "
                "baseline and carries no signal; MaxRL gains from 8 and more"
            )
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise InputError(
                f"multi_objective_aggregation={self.multi_objective_aggregation!r} is not supported: it normalises each "
                "reward by its own standard deviation before the estimator sees it; use 'sum_then_normalize' with "
                "reward_weights"
            )
        if trl_loss_type(self.loss_type) == "dr_grpo" and not self.max_completion_length:
            raise InputError(
                f"loss_type={self.loss_type!r} divides by max_completion_length: set max_completion_length, or take "
                "loss_type='rollout_sum'"
            )
        self._check_ranges()
        self._check_estimator()
        self._choose_backend()
        if self.bf16 is None and not is_torch_bf16_gpu_available():
            # TRL would set it to True and then refuse to run on a CPU.
            self.bf16 = not self.fp16 and not torch.accelerator.is_available() and cpu_multiplies_bf16()
        if self.bf16 and not torch.accelerator.is_available():
            self.use_cpu = True  # what transformers wants to hear before it takes bf16 there
        if self.activation_checkpointing is None:
            self.activation_checkpointing = self.gradient_checkpointing  # the name transformers moves to
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # torch warns where there is no device to pin for
        self._hand_to_trl()

    def _hand_to_trl(self) -> None:
        """TRL's own checks; where tasks bring their own number of rollouts, `check_rows` is that of the batch."""
        tasks, given = self.tasks(), (self.num_generations, self.num_generations_eval)
        if tasks:
            steps = self.steps_per_generation or self.gradient_accumulation_steps
            rows = self.generation_batch_size or self.per_device_train_batch_size * steps
            # TRL wants groups that divide the batch, which this one does.
            self.num_generations, self.num_generations_eval = max(2, rows), given[1] or given[0]
        super().__post_init__()
        if tasks:
            self.num_generations, self.num_generations_eval = given
            assert self.generation_batch_size is not None, "TRL sets it"
            check_rows(tasks, self.generation_batch_size, self.per_device_train_batch_size)
            if self.refill_dead_groups:
                raise InputError(
                    f"refill_dead_groups={self.refill_dead_groups} is not possible with task_settings: these fix how many "
                    "groups of each task a batch holds, and prompts drawn further are of any task; set refill_dead_groups=0"
                )

    def tasks(self) -> dict[str, TaskSettings]:
        """What `task_settings` says of each task, resolved; empty where there is one task only.

        Raises:
            InputError: an option is unknown or out of range.
        """
        given = _mapping("task_settings", self.task_settings)
        assert self.num_generations is not None, "checked when this was made"
        return read_task_settings(
            given,
            num_generations=self.num_generations,
            advantage_estimator=self.advantage_estimator,
            correctness_threshold=self.correctness_threshold,
        )

    @property
    def groups_per_generation(self) -> int:
        """Groups of a generation batch, over all processes."""
        assert self.generation_batch_size is not None, "TRL sets it"
        assert self.num_generations is not None, "checked when this was made"
        tasks = self.tasks()
        if tasks:
            return len(Composition(tasks, self.generation_batch_size).tasks)
        return self.generation_batch_size // self.num_generations

    def estimator(self) -> AnyEstimator:
        """The estimator this configuration names, made anew.

        Raises:
            InputError: no estimator has this name, or it does not have these options.
        """
        if not isinstance(self.advantage_estimator, str):
            raise InputError(
                f"advantage_estimator is a name, which a configuration can hold, but is {self.advantage_estimator!r}; an "
                "instance or a callable goes to MaxRLTrainer(estimator=…)"
            )
        return as_estimator(
            self.advantage_estimator,
            **_mapping("advantage_estimator_kwargs", self.advantage_estimator_kwargs),
        )

    def _choose_backend(self) -> None:
        if self.rollout_backend not in ROLLOUT_BACKENDS:
            raise unknown_name("rollout_backend", str(self.rollout_backend), ROLLOUT_BACKENDS)
        if self.update_backend not in UPDATE_BACKENDS:
            raise unknown_name("update_backend", str(self.update_backend), UPDATE_BACKENDS)
        if self.use_vllm and self.rollout_backend not in ("auto", "vllm"):
            raise InputError(
                f"rollout_backend={self.rollout_backend!r} contradicts use_vllm=True; leave one of them out"
            )
        if self.rollout_backend == "vllm":
            self.use_vllm = True

    def _check_ranges(self) -> None:
        """What TRL and transformers find out in the middle of the first step, or never."""
        if self.loss_type not in LOSS_TYPES:
            raise unknown_name("loss_type", str(self.loss_type), LOSS_TYPES)
        if self.overlong not in OVERLONG:
            raise unknown_name("overlong", str(self.overlong), OVERLONG)
        for name, low in LEAST.items():
            value = getattr(self, name)
            if value is not None and not (low <= value < math.inf):
                raise InputError(f"{name} must be at least {low}, but is {value}")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature must be above 0, but is {self.temperature}")
        if not 0 < self.reward_timeout < math.inf:
            raise InputError(
                f"reward_timeout must be above 0 seconds and finite, but is {self.reward_timeout}"
            )
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must lie in (0, 1], but is {self.top_p}")
        if self.seed is None or not 0 <= self.seed < 2**32:
            raise InputError(f"seed must lie between 0 and 2**32 - 1, but is {self.seed}")
        if self.max_steps == 0:
            raise InputError("max_steps must be at least 1, or -1 for num_train_epochs; it is 0")

    def _check_estimator(self) -> None:
        self.check_estimator(self.estimator())

    def check_estimator(self, estimator: AnyEstimator) -> None:
        """Refuse estimators that contradict the rest of this configuration.

        Args:
            estimator: of the run; tasks that have their own are checked with it.

        Raises:
            InputError: one needs more rollouts than its groups have, or `scale_rewards` says something else.
        """
        assert self.num_generations is not None, "checked when this was made"
        pairs = [(own.estimator or estimator, own.num_generations) for own in self.tasks().values()]
        for each, size in pairs or [(estimator, self.num_generations)]:
            self._check_one(each, size)

    def _check_one(self, estimator: AnyEstimator, num_generations: int) -> None:
        if estimator.least_rollouts > num_generations:
            raise InputError(
                f"{estimator!r} needs at least {estimator.least_rollouts} rollouts per group, but num_generations="
                f"{num_generations}: so many tell nothing of it; lower its order (or k), or draw more"
            )
        with_memory = isinstance(estimator, EstimatorWithMemory)
        same = "group" if isinstance(estimator, GRPO) else "none"
        asked = {True: "group", False: "none"}.get(self.scale_rewards, self.scale_rewards)
        if asked not in ((None,) if with_memory else (None, same)):
            raise InputError(
                f"scale_rewards={self.scale_rewards!r} contradicts advantage_estimator={estimator.name!r}, "
                f"which decides the scaling itself (as {same!r} does, if at all); leave scale_rewards unset, or choose "
                "the estimator you mean: 'grpo' divides by the group's standard deviation, 'dr_grpo' by nothing"
            )


def _mapping(name: str, value: Any) -> dict[str, Any]:
    """A field that holds a mapping, which a command line gives as JSON; empty for None."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise InputError(
                f'{name} must be a JSON object such as \'{{"no_success": "penalize"}}\', but '
                f"is {value!r}: {error}"
            ) from error
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{name} must be a mapping, but is {value!r}")
    return value or {}

"""`MaxRLTrainer`: TRL's GRPOTrainer with the advantages of any maxrl estimator."""

import logging
import math
import textwrap
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from maxrl.engine import SamplingParams, SharedPrefixGenerator, evaluation_mode, keep_freed_memory
from maxrl.errors import InputError, RewardError
from maxrl.models import load_tokenizer
from maxrl.models.loading import has_own_tokenizer
from maxrl.objectives import MaxRL
from maxrl.training.backends import rollouts_reason, update_reason
from maxrl.training.config import MaxRLConfig
from maxrl.training.packed_update import PackedUpdate
from maxrl.training.rewards import check_reward_function
from maxrl.training.rollouts import evaluation_requests, training_requests

logger = logging.getLogger(__name__)


class MaxRLTrainer(PackedUpdate):
    """Maximum likelihood reinforcement learning (arXiv 2602.02710), drop-in for TRL's `GRPOTrainer`.

    Data, rewards, loss, clipping, KL, LoRA, vLLM, tools, accelerate, checkpoints and logging are TRL's; advantages are the
    estimator's; rollouts, log-probabilities and gradients the shared-prefix engine's, where it can serve the model. The
    constructor takes what `GRPOTrainer` takes, with a `MaxRLConfig` as `args`.

    ```python
    trainer = MaxRLTrainer(model="Qwen/Qwen2.5-0.5B-Instruct", reward_funcs=reward, args=MaxRLConfig("out"),
                           train_dataset=dataset)
    trainer.train()
    ```

    Metrics beside TRL's, each over the whole generation batch of all ranks. The *signal* is what the estimator
    sees: the weighted sum of the rewards, or with `correctness_threshold` 1 where that sum is greater and else 0.
    A *success* is a rollout whose signal is 1.

    - `success_rate`: fraction of scored rollouts that are successes.
    - `frac_reward_zero_mean`: fraction of groups whose mean signal is 0 (no success: dead groups).
    - `frac_reward_all_success`: fraction of groups in which every scored rollout is a success (mastered prompts).
    - `advantage_mass`: mean |advantage| of the scored rollouts; 2((1 − (1−p)^N) − p) is expected of MaxRL.
    - `frac_reward_nonbinary`: fraction of scored rollouts whose signal is neither 0 nor 1.
    - `frac_order_lowered`: fraction of groups with fewer scored rollouts than the order of `MaxRL(order=T)`, which is
      lowered to them.
    - `frac_rows_updated`: fraction of rows that the engine's update covered; the others had no advantage.
      `entropy` and `clip_ratio/*` are over these rows.

    Overrides, and why:

    - `__init__`: makes the estimator, refuses a plain `GRPOConfig`, checks what reward functions return, loads
      the tokenizer of a model folder as it was saved (see `load_tokenizer`), turns TRL's own scaling off, and chooses
      the back-ends.
    - `_calculate_rewards`: remembers the gathered reward matrix, which TRL hands to nobody.
    - `_generate_and_score_completions`: replaces TRL's advantages, in the batch and in the logged table.
    - `_generate_single_turn`: samples from the engine; else in evaluation mode, because TRL leaves dropout on.
    - `_prepare_inputs`, `compute_loss`, `_get_per_token_logps_and_entropies`: see `PackedUpdate`.

    Raises:
        RewardError: the estimator is not defined on a reward met while training (a negative one, for MaxRL); a
            checkpoint is saved first.
    """

    _tag_names: ClassVar = ["trl", "maxrl"]
    _name = "MaxRL"
    _paper: ClassVar = {
        "title": "Maximum Likelihood Reinforcement Learning",
        "id": "2602.02710",
        "citation": textwrap.dedent("""\
            @article{tajwar2026maxrl,
                title        = {{Maximum Likelihood Reinforcement Learning}},
                author       = {Fahim Tajwar and Guanning Zeng and Yueer Zhou and Yuda Song and Daman Arora and
                                Yiding Jiang and Jeff Schneider and Ruslan Salakhutdinov and Haiwen Feng and
                                Andrea Zanette},
                year         = 2026,
                eprint       = {arXiv:2602.02710},
            }"""),
    }

    args: MaxRLConfig

    def __init__(
        self,
        model: str | PreTrainedModel,
        reward_funcs: Any = None,
        args: MaxRLConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *positional: Any,
        **keywords: Any,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else model.config._name_or_path
            args = MaxRLConfig(f"{name.split('/')[-1] or 'model'}-MaxRL")
        if not isinstance(args, MaxRLConfig):
            raise InputError(
                f"MaxRLTrainer needs a MaxRLConfig as args, but got {type(args).__name__}; MaxRLConfig takes every "
                "option of GRPOConfig"
            )
        self.estimator = args.estimator()
        self._gathered_rewards: Tensor | None = None
        self._warned_nonbinary = False
        self._generation = (-1, 0)
        if isinstance(reward_funcs, list):
            reward_funcs = [check_reward_function(function) for function in reward_funcs]
        else:
            reward_funcs = check_reward_function(reward_funcs)
        if processing_class is None and isinstance(model, str) and has_own_tokenizer(model):
            processing_class = load_tokenizer(model)
        super().__init__(
            model, reward_funcs, args, train_dataset, eval_dataset, processing_class, *positional, **keywords
        )
        # The estimator scales; TRL only centres, and what it centres is replaced.
        self.scale_rewards = "none"
        self.engine = self._make_engine()
        self.packed = self._choose_update()
        if self.packed and self.accelerator.device.type == "cpu":
            keep_freed_memory()

    def _make_engine(self) -> SharedPrefixGenerator | None:
        """The sampler, where it draws the rollouts."""
        asked = self.args.rollout_backend
        if self.use_vllm or asked == "transformers":
            return None
        if not self._takes_engine(
            "rollout_backend", asked, rollouts_reason(self), "rollouts come from transformers"
        ):
            return None
        half = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None
        return SharedPrefixGenerator(self.model, stop_ids=self.eos_token_ids, dtype=half)

    def _choose_update(self) -> bool:
        asked = self.args.update_backend
        if asked == "transformers" or (asked == "auto" and self.args.rollout_backend == "transformers"):
            return False
        return self._takes_engine("update_backend", asked, update_reason(self), "the update is TRL's")

    def _takes_engine(self, option: str, asked: str, reason: str | None, instead: str) -> bool:
        # A model is tried out in every process, and the ways differ in how often processes meet.
        refused = torch.tensor([int(reason is not None)], device=self.accelerator.device)
        if not self.accelerator.gather(refused).any():
            return True
        reason = reason or "another process cannot use it"
        if asked == "engine":
            raise InputError(
                f"{option}='engine' is not possible: {reason}; use {option}='auto' or 'transformers'"
            )
        if self.accelerator.is_main_process:
            logger.warning("%s, not from the shared-prefix engine: %s", instead, reason)
        return False

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        self._gathered_rewards = super()._calculate_rewards(*args, **kwargs)
        return self._gathered_rewards

    def _generate_single_turn(
        self,
        prompt_ids: Any,
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if self.engine is not None:
            return self._engine_rollouts(self.engine, prompt_ids, num_generations)
        with evaluation_mode(self.model):
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs
            )

    def _engine_rollouts(
        self, engine: SharedPrefixGenerator, prompt_ids: list[list[int]], num_generations: int
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Completions of this process's rows, and the log-probabilities they were drawn with."""
        place = {
            "num_generations": num_generations,
            "first_row": self.accelerator.process_index * len(prompt_ids),
            "seed": self.args.seed,
        }
        if self.model.training:
            # Counted within the optimizer step, so that a resumed run draws what it would have drawn.
            step, within = self._generation
            self._generation = (
                (step, within + 1) if step == self.state.global_step else (self.state.global_step, 0)
            )
            requests = training_requests(prompt_ids, generation=self._generation, **place)
        else:
            requests = evaluation_requests(prompt_ids, **place)
        params = SamplingParams(
            max_completion_length=self.max_completion_length,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p,
        )
        groups = engine.generate(
            [request.prompt for request in requests],
            params,
            seeds=[request.seed for request in requests],
            rollouts=[request.rollouts for request in requests],
        )
        drawn = [completion for group in groups for completion in group]
        return [list(row.token_ids) for row in drawn], [list(row.logprobs) for row in drawn]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        mode = "train" if self.model.training else "eval"
        output = super()._generate_and_score_completions(inputs)
        signal_GN = self._signal(self.num_generations if mode == "train" else self.num_generations_eval)
        try:
            advantages_GN = self.estimator(signal_GN)
        except RewardError as error:
            if mode == "train":
                self._save_before_stopping()
                raise RewardError(
                    f"{error} (stopped at step {self.state.global_step}; a checkpoint was saved in "
                    f"{self.args.output_dir}: continue from it with resume_from_checkpoint)"
                ) from error
            raise
        self._log_signal(signal_GN, advantages_GN, mode)
        self._replace_advantages(output, advantages_GN.flatten())
        return output

    def _save_before_stopping(self) -> None:
        """Save a checkpoint, unless there is one of this very step. Every rank sees the gathered rewards and comes here."""
        checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        found = torch.tensor([int(checkpoint.exists())], device=self.accelerator.device)
        # Decided together: one rank's new folder would keep a later one from saving its part.
        if not self.accelerator.gather(found).any():
            self._save_checkpoint(self.model, trial=None)

    def _signal(self, num_generations: int) -> Tensor:
        """What the estimator sees, (groups, rollouts) over all ranks; NaN where no reward function gave a value."""
        assert self._gathered_rewards is not None, "TRL scores completions before it computes advantages"
        rewards = self._gathered_rewards
        weights = self.reward_weights.to(rewards.device).unsqueeze(0)
        signal = (rewards * weights).nansum(dim=1)
        signal[torch.isnan(rewards).all(dim=1)] = torch.nan
        if self.args.correctness_threshold is not None:
            success = (signal > self.args.correctness_threshold).to(signal.dtype)
            signal = torch.where(signal.isnan(), signal, success)
        return signal.view(-1, num_generations)

    def _log_signal(self, signal_GN: Tensor, advantages_GN: Tensor, mode: str) -> None:
        scored_GN = ~signal_GN.isnan()
        live_groups = scored_GN.any(dim=1)
        scored = int(scored_GN.sum())
        success_GN = signal_GN == 1
        nonbinary = int((scored_GN & ~success_GN & (signal_GN != 0)).sum())
        zero_mean_G = (signal_GN.nansum(dim=1) == 0) & live_groups
        all_success_G = (success_GN | ~scored_GN).all(dim=1) & live_groups
        # NaN where nothing was scored: a verifier that failed throughout is no success rate of zero. TRL's log
        # leaves NaN out of its averages.
        of_scored = scored or math.nan
        metrics = {
            "success_rate": int(success_GN.sum()) / of_scored,
            "frac_reward_zero_mean": zero_mean_G.float().mean().item(),
            "frac_reward_all_success": all_success_G.float().mean().item(),
            "advantage_mass": float(advantages_GN.abs().sum()) / of_scored,
            "frac_reward_nonbinary": nonbinary / of_scored,
        }
        least = self.estimator.least_rollouts
        if least > 1:
            metrics["frac_order_lowered"] = (scored_GN.sum(dim=1) < least).float().mean().item()
        for name, value in metrics.items():
            self._metrics[mode][name].append(value)
        # An order is exact on likelihoods, too.
        as_it_is = isinstance(self.estimator, MaxRL) and self.estimator.order is None
        if nonbinary and as_it_is and not self._warned_nonbinary:
            self._warned_nonbinary = True
            warnings.warn(
                f"{nonbinary} of {scored} rewards are neither 0 nor 1. The estimator "
                f"'{self.args.advantage_estimator}' is applied to them as it is, but what it then optimises is no "
                "likelihood of success; correctness_threshold turns graded rewards into success, and order=T takes "
                "likelihoods in [0, 1]",
                stacklevel=2,
            )

    def _replace_advantages(self, output: dict[str, Any], advantages: Tensor) -> None:
        """Put the advantages of all ranks into the logged table, and this rank's into the batch."""
        logged = self._logs["advantages"]
        for _ in range(min(len(logged), len(advantages))):
            logged.pop()
        logged.extend(advantages.tolist())
        local = output["advantages"].size(0)
        start = self.accelerator.process_index * local
        output["advantages"] = advantages[start : start + local].to(output["advantages"].dtype)

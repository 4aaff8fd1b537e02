"""`MaxRLTrainer`: TRL's GRPOTrainer with the advantages of any maxrl estimator."""

import logging
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedModel

from maxrl.engine import SamplingParams, SharedPrefixGenerator, evaluation_mode, keep_freed_memory
from maxrl.errors import InputError
from maxrl.models import load_tokenizer
from maxrl.models.loading import has_own_tokenizer
from maxrl.objectives import AnyEstimator, MaxRL, as_estimator
from maxrl.objectives.diagnostics import GroupDiagnostics, group_diagnostics
from maxrl.training.backends import rollouts_reason, update_reason
from maxrl.training.config import MaxRLConfig
from maxrl.training.diagnostics import diagnostic_metrics, diagnostic_row, pass_rates, prompt_id
from maxrl.training.estimating import Estimating
from maxrl.training.mixing import frac_zero_std, task_metrics
from maxrl.training.packed_update import PackedUpdate
from maxrl.training.progress import Progress
from maxrl.training.refill import draw_live, refuse_refill
from maxrl.training.reward_guard import guarded, without_failures
from maxrl.training.rollouts import evaluation_requests, training_requests
from maxrl.training.signal import Draw, estimator_signal, nonbinary, signal_metrics, weighted_rewards
from maxrl.training.stopping import StopsEarly

logger = logging.getLogger(__name__)


class MaxRLTrainer(StopsEarly, PackedUpdate):
    """Maximum likelihood reinforcement learning (arXiv 2602.02710), drop-in for TRL's `GRPOTrainer`.

    Data, rewards, loss, clipping, KL, LoRA, vLLM, tools, accelerate, checkpoints and logging are TRL's; advantages are the
    estimator's; rollouts, log-probabilities and gradients the shared-prefix engine's, where it can serve the model. The
    constructor takes what `GRPOTrainer` takes, with a `MaxRLConfig` as `args`, and `estimator`: an instance, a name or a
    callable rewards → advantages, in place of the configuration's.

    ```python
    trainer = MaxRLTrainer(model="Qwen/Qwen2.5-0.5B-Instruct", reward_funcs=reward, args=MaxRLConfig("out"),
                           train_dataset=dataset)
    trainer.train()
    ```

    An estimator with memory has one state for each value of the data set's column `task` (one in all without it). A state
    advances once per training generation, by the rewards of all ranks, never in an evaluation, and is saved with every
    checkpoint. An estimator that looks at the batch looks at one task at a time. With `task_settings` each of these tasks
    can have its own estimator, number of rollouts and share of the groups.

    Metrics beside TRL's, each over all that all ranks sampled in a generation, refills included. The *signal* is what the
    estimator sees: the weighted sum of the rewards, or with `correctness_threshold` 1 where that sum is greater and else 0;
    then what `overlong` makes of truncated rollouts. A *success* is a rollout whose signal is 1.

    - `success_rate`: fraction of scored rollouts that are successes.
    - `frac_reward_zero_mean`: fraction of groups whose mean signal is 0 (no success).
    - `frac_reward_all_success`: fraction of groups in which every scored rollout is a success.
    - `advantage_mass`: mean |advantage| of the scored rollouts; 2((1 − (1−p)^N) − p) is expected of MaxRL.
    - `frac_reward_nonbinary`: fraction of scored rollouts whose signal is neither 0 nor 1.
    - `frac_order_lowered`: fraction of groups with fewer scored rollouts than the order of the estimator they met needs; not
      in evaluations whose groups are smaller anyway.
    - `frac_truncated`: fraction of rollouts that were cut off before a stop token.
    - `verifier/errors`: fraction of rollouts that a reward function failed on: it crashed, took longer than
      `reward_timeout`, or returned no number. They leave their groups, whatever other functions say of them.
    - `groups/dead`, `groups/live`, `groups/mastered`, `weights/*`, `train_pass@k`: see `GroupDiagnostics`; in training only.
    - `estimator/{name}`: of an estimator that chooses, the fraction of groups that met this choice; and its own statistics.
    - `tasks/{name}/…`: with `task_settings`, the figures above of each task, its `reward`, and `frac_rollouts`, its share of
      the rollouts. A `train_pass@k` of the whole is over the tasks whose groups have k rollouts.
    - `refill_rounds`, `groups_refilled`: rounds of further prompts, and groups that came in place of dead ones.
    - `rollouts`, `completion_tokens`: sampled for training since it began.
    - `weighted_nll`: −Σ A log π(y)/n over the n scored rollouts that are trained on, where what drew them tells log π: for
      `SuccessWeighted` its loss, −Σ w log π/Σ w.
    - `frac_rows_updated`: fraction of rows that the engine's update covered; the others had no advantage.
      `entropy` and `clip_ratio/*` are over these rows.

    `diagnostics` holds these figures of each generation drawn for the present step, with the K histogram and r̂ of each
    prompt; `progress.recent_pass_rates` the latest r̂ of each prompt.

    Overrides, and why:

    - `__init__`: makes the estimator, refuses a plain `GRPOConfig`, guards against what reward functions may do, loads
      the tokenizer of a model folder as it was saved (see `load_tokenizer`), turns TRL's own scaling off, and chooses
      the back-ends.
    - `_calculate_rewards`, `_generate`: remember the gathered rewards, and how completions ended, which TRL hands to nobody.
    - `_generate_and_score_completions`: replaces TRL's advantages, in the batch and in the logged table, and groups
      without signal.
    - `_generate_single_turn`: samples from the engine; else in evaluation mode, because TRL leaves dropout on.
    - `_save_checkpoint`, `_load_optimizer_and_scheduler`, `log`: see `KeepsProgress`; for how a run ends, `StopsEarly`.
    - `_prepare_inputs`, `compute_loss`, `_get_per_token_logps_and_entropies`: see `PackedUpdate`.
    - `_get_train_sampler`: see `MixesTasks`.

    Raises:
        RewardError: the estimator is not defined on a reward met while training (a negative one, for MaxRL), or in an
            evaluation between steps; a checkpoint is saved first.
        VerifierError: the reward functions failed on every rollout of ten draws in a row; a checkpoint is saved.
        NoSignalError: with `refill_dead_groups`, one generation and all its rounds have no live group; a checkpoint is
            saved. Where every group of them is mastered, training ends regularly instead.
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
        estimator: Any = None,
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
        self.estimator: AnyEstimator = args.estimator() if estimator is None else as_estimator(estimator)
        args.check_estimator(self.estimator)
        own = {task: settings.estimator for task, settings in args.tasks().items()}
        self.estimating = Estimating(self.estimator, {task: it for task, it in own.items() if it is not None})
        self.progress = Progress()
        self.diagnostics: list[dict[str, Any]] = []
        self._gathered_rewards: Tensor | None = None
        self._truncated_and_lengths = torch.zeros(0, 2)
        self._warned_nonbinary = False
        self.drawn_at = (-1, 0)
        if isinstance(reward_funcs, list):
            reward_funcs = [guarded(function, args.reward_timeout) for function in reward_funcs]
        else:
            reward_funcs = guarded(reward_funcs, args.reward_timeout)
        if processing_class is None and isinstance(model, str) and has_own_tokenizer(model):
            processing_class = load_tokenizer(model)
        super().__init__(
            model, reward_funcs, args, train_dataset, eval_dataset, processing_class, *positional, **keywords
        )
        # The estimator scales; TRL only centres, and what it centres is replaced.
        self.scale_rewards = "none"
        if args.refill_dead_groups:
            refuse_refill(self)
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
        self._gathered_rewards, failures = without_failures(super()._calculate_rewards(*args, **kwargs))
        self._metrics["train" if self.model.training else "eval"]["verifier/errors"].append(failures)
        if self.model.training:
            self._stop_where_verifiers_fail(failures)
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
        training = self.model.training
        place = {
            "num_generations": self.composition.layout if training and self.composition else num_generations,
            "first_row": self.accelerator.process_index * len(prompt_ids),
            "seed": self.args.seed,
        }
        if training:
            requests = training_requests(prompt_ids, generation=self.drawn_at, **place)
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

    def _generate(self, prompts: list[Any]) -> Any:
        generated = super()._generate(prompts)
        completion_ids, tool_mask = generated[1], generated[2]
        stops = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        lengths = [len(ids) for ids in completion_ids] if tool_mask is None else [sum(m) for m in tool_mask]
        cut_off = [int(ids[-1] not in stops) for ids in completion_ids]
        own = torch.tensor([cut_off, lengths], device=self.accelerator.device).T
        self._truncated_and_lengths = self.accelerator.gather(own.contiguous())
        return generated

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            draw = self.draw(inputs)
            self._log_signal(draw, "eval")
            return self._with_advantages(draw)
        every, used = draw_live(self, inputs) if self.args.refill_dead_groups else [self.draw(inputs)] * 2
        self._log_signal(every, "train")
        found = self._log_diagnostics(every)
        self.estimating.advance(every.signal_GN, every.tasks, self.state.global_step, every.layout.sizes)
        batch = self._with_advantages(used)
        self._log_likelihood(batch, int((~used.signal_GN.isnan()).sum()))
        if self.args.refill_dead_groups:
            self._stop_where_signal_ends(every, found)
        return batch

    def draw(self, inputs: list[dict[str, Any]]) -> Draw:
        """Sample and score a batch of whole groups (over all ranks); in training, count it."""
        training = self.model.training
        if training:
            # Counted within the optimizer step, so that a resumed run draws what it would have drawn.
            step, within = self.drawn_at
            self.drawn_at = (
                (step, within + 1) if step == self.state.global_step else (self.state.global_step, 0)
            )
        labels = gather_object([(prompt_id(row), str(row.get("task", ""))) for row in inputs])
        layout = self.layout_of(len(labels))
        prompts, tasks = zip(*(labels[start] for start in layout.starts[:-1]), strict=True)
        rows = super()._generate_and_score_completions(inputs)
        assert self._gathered_rewards is not None, "TRL scores completions before it computes advantages"
        rewards, (truncated, lengths) = self._gathered_rewards, self._truncated_and_lengths.unbind(1)
        if training:
            self.progress.count(len(lengths), int(lengths.sum()))
        weights = self.reward_weights.to(rewards.device)
        signal = estimator_signal(
            rewards,
            weights,
            truncated.bool(),
            threshold=self.threshold_of(tasks, layout),
            overlong=self.args.overlong,
        )
        signal_GN = layout.matrix(signal, torch.nan)
        return Draw(
            rows=rows,
            layout=layout,
            rewards_GN=layout.matrix(weighted_rewards(rewards, weights), torch.nan),
            signal_GN=signal_GN,
            truncated_GN=layout.matrix(truncated.bool(), empty=False),
            prompts=prompts,
            tasks=tasks,
            advantages_GN=self.advantages_of(signal_GN, tasks, layout.sizes),
        )

    def advantages_of(
        self, signal_GN: Tensor, tasks: Sequence[str], sizes: Sequence[int] | None = None
    ) -> Tensor:
        try:
            return self.estimating.advantages(signal_GN, tasks, self.state.global_step, sizes)
        except InputError as error:
            self._stop_by(error)

    def _log_signal(self, draw: Draw, mode: str) -> None:
        step = self.state.global_step
        metrics = signal_metrics(draw) | self.estimating.metrics(draw.signal_GN, draw.tasks, step)
        if self.composition is not None:
            metrics |= task_metrics(draw, self.estimating, step, training=mode == "train")
            if self.composition.ragged and mode == "train":
                self._metrics[mode]["frac_reward_zero_std"][-1] = frac_zero_std(draw)
        for name, value in metrics.items():
            self._metrics[mode][name].append(value)
        if not self._warned_nonbinary and nonbinary(draw.signal_GN):
            self._warn_if_nonbinary(draw)

    def _warn_if_nonbinary(self, draw: Draw) -> None:
        for task in dict.fromkeys(draw.tasks):
            given = self.estimating.given(task, self.state.global_step)
            signal_GN = draw.of_task(task).signal_GN
            count = nonbinary(signal_GN)
            # An order is exact on likelihoods, too.
            if count and isinstance(given, MaxRL) and given.order is None:
                self._warned_nonbinary = True
                warnings.warn(
                    f"{count} of {int((~signal_GN.isnan()).sum())} rewards are neither 0 nor 1. The estimator "
                    f"'{self.estimating.of(task).name}' is applied to them as it is, but what it then optimises is no "
                    "likelihood of success; correctness_threshold turns graded rewards into success, and order=T takes "
                    "likelihoods in [0, 1]",
                    stacklevel=2,
                )
                return

    def _log_diagnostics(self, draw: Draw) -> GroupDiagnostics:
        found = group_diagnostics(draw.signal_GN, draw.advantages_GN)
        for name, value in diagnostic_metrics(found).items():
            self._metrics["train"][name].append(value)
        rates = pass_rates(draw.prompts, draw.signal_GN)
        self.progress.remember(rates)
        step = self.state.global_step + 1
        self.diagnostics = [row for row in self.diagnostics if row["step"] == step]
        self.diagnostics.append(diagnostic_row(step, found, rates))
        return found

    def _log_likelihood(self, batch: dict[str, Any], scored: int) -> None:
        logprobs = batch.get("sampling_per_token_logps")  # those of the engine, and of vLLM
        if logprobs is not None and scored:
            # Of what an environment wrote vLLM and users' functions may say anything, NaN included.
            mask = batch["completion_mask"] * batch.get("tool_mask", 1)
            weighted = batch["advantages"].unsqueeze(1) * logprobs.nan_to_num(nan=0.0) * mask
            total = float(self.accelerator.gather(weighted.sum()).sum())
            self._metrics["train"]["weighted_nll"].append(-total / scored)

    def _with_advantages(self, draw: Draw) -> dict[str, Any]:
        """Put the advantages of all ranks into the logged table, and this rank's into the batch."""
        advantages, logged = draw.layout.flat(draw.advantages_GN), self._logs["advantages"]
        for _ in range(min(len(logged), len(advantages))):
            logged.pop()
        logged.extend(advantages.tolist())
        return self.with_own_advantages(draw)

    def with_own_advantages(self, draw: Draw) -> dict[str, Any]:
        """This rank's rows, with their advantages."""
        advantages = draw.layout.flat(draw.advantages_GN)
        local = len(draw.rows["completion_ids"])
        start = self.accelerator.process_index * local
        own = advantages[start : start + local].to(draw.rows["advantages"].dtype)
        return {**draw.rows, "advantages": own}

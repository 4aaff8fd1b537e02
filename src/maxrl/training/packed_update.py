"""The update over whole groups: chunks of the packed layout, TRL's own loss on each, one gradient.

Shape suffixes: B rows of a unit, the rows that are updated together; R rows of a slice of it; T tokens.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maxrl.engine import PromptGroup, engine_attention, split_groups, token_logprobs
from maxrl.training.aggregation import trl_loss_type
from maxrl.training.mixing import MixesTasks
from maxrl.training.pieces import PieceMetrics
from maxrl.training.signalless import SkipSignalless, live_rows

CHUNK_LOGITS = {"cpu": 2**29, "cuda": 2**31}
"""Most logits of a chunk: 2 GiB in float32 on a CPU, 8 on a GPU."""

MEAN_OVER_ROWS = ("grpo", "dr_grpo", "sapo", "luspo")
"""Losses that TRL averages over the rows it is given."""

MEAN_OVER_TOKENS = ("bnpo",)
"""Losses that TRL averages over the tokens it is given; the others divide by a number of the whole batch."""


class PackedUpdate(SkipSignalless, MixesTasks):
    """`GRPOTrainer` that computes log-probabilities and gradients with each prompt forwarded once.

    TRL shuffles the rows of a generation batch and cuts them into `steps_per_generation` micro-batches, each forwarded
    and back-propagated on its own. Here the micro-batches between two optimizer steps (and of one generation) are one
    *unit*, updated when the last of them is due; the unit is walked in chunks of groups under a token budget, so that
    memory is bounded by the budget and not by the batch.

    Overrides, and why, beside those of `SkipSignalless` and `MixesTasks`:

    - `__init__`: gives TRL its own name of the aggregation, `loss_type`.
    - `_prepare_inputs`: the split, so that groups stay whole.
    - `compute_loss`: what `training_step` calls for the loss of a micro-batch. Here it walks the unit and
      back-propagates chunk by chunk, because a loss can only be returned in one piece.
    - `_get_per_token_logps_and_entropies`: packed, for the loss, for old and for reference log-probabilities.
    """

    packed: bool = False
    """Whether the update goes this way, or TRL's."""

    def __init__(self, model: Any, reward_funcs: Any, args: Any, *positional: Any, **keywords: Any) -> None:
        given = args.loss_type
        # TRL's warnings, and its Liger loss, go by its own names. That "luspo" lacks the ratios of its paper is no matter
        # for who asked for a sum.
        if given != "rollout_sum" or args.use_liger_kernel:
            args.loss_type = trl_loss_type(given)
        try:
            super().__init__(model, reward_funcs, args, *positional, **keywords)
        finally:
            args.loss_type = given
        self.loss_type = trl_loss_type(given)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        if not self.packed or not self.model.training:
            return super()._prepare_inputs(generation_batch)
        every = self.args.steps_per_generation * self.num_iterations
        if self._step % every == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = self._units(batch)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _units(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """One entry per micro-step: the unit's rows at its last micro-step, nothing at the others."""
        steps, length = self.args.steps_per_generation, self._micro_batches
        rows = batch["completion_ids"].shape[0]
        order = torch.arange(rows)
        layout = self.layout_of(rows * self.accelerator.num_processes)
        first = rows * self.accelerator.process_index
        if steps > length and {first, first + rows} <= {*layout.starts}:
            # Units of one generation see different policies; which group comes when is left to chance, as in TRL. Where
            # groups differ in size, a unit may end within one.
            groups = [
                order[piece.start - first : piece.stop - first]
                for piece in layout.pieces(first, first + rows)
            ]
            order = torch.cat([groups[number] for number in torch.randperm(len(groups))])
        units: list[dict[str, Any]] = []
        for part in order.chunk(steps // length):
            units += [{}] * (length - 1)
            units.append(_rows(batch, part.to(batch["completion_ids"].device)))
        return units

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not self.packed or not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        total = torch.zeros((), device=self.accelerator.device)
        if inputs:
            with engine_attention(model):
                total = self._walk(model, inputs, total)
        # The gradient is there already; Trainer's own backward finds nothing to do.
        return total.requires_grad_()

    def _walk(self, model: nn.Module, unit: dict[str, Any], total: Tensor) -> Tensor:
        """Forward and backward of a unit, slice by slice; ranks meet in their last one."""
        slices = self._slices(unit)
        metrics = _SliceMetrics(self._metrics["train"])
        policy = torch.zeros(1, device=self.accelerator.device)
        for number, part in enumerate(slices):
            with self.accelerator.no_sync(model) if number < len(slices) - 1 else nullcontext():
                loss = self._slice_loss(model, part)
                self.accelerator.backward(loss)
            total = total + loss.detach()
            if self._entropy_bonus_enabled:
                policy += self._metrics["train"]["policy_loss"][-1] * part.weight / self._micro_batches
            metrics.collect(_tokens(part.rows) if part.weight else 0)
        metrics.merge(self.accelerator)
        if self._entropy_bonus_enabled:
            # Sums, not means, of what was logged for the slices; and the coefficient as it is, not a slice's.
            self._metrics["train"]["policy_loss"][-1] = float(self.accelerator.gather(policy).mean())
            if self.accelerator.sync_gradients:  # TRL logs it once per optimizer step
                self._metrics["train"]["entropy_coef"][-1] = self.entropy_coef
        updated = sum(len(part.rows["advantages"]) for part in slices if part.weight)
        rows = torch.tensor([[updated, len(unit["advantages"])]], device=self.accelerator.device)
        updated, every = self.accelerator.gather(rows).sum(dim=0).tolist()
        self._metrics["train"]["frac_rows_updated"].append(updated / every)
        return total

    def _slices(self, unit: dict[str, Any]) -> "list[_Slice]":
        """Chunks of whole groups under the token budget, of the rows that can have a gradient.

        Where there is none, a row of weight 0 stands in: it leaves gradients of zero, as TRL would, and lets the other
        ranks have this one's.
        """
        rows = torch.arange(len(unit["advantages"]), device=unit["advantages"].device)
        if self.beta == 0 and not self._entropy_bonus_enabled:
            rows = rows[live_rows(unit)]
        slices, start = [], 0
        if len(rows):
            kept = _rows(unit, rows)
            for chunk in self._chunks(_padded_groups(kept)):
                count = sum(len(group.completions) for group in chunk)
                part = _rows(kept, torch.arange(start, start + count, device=rows.device))
                slices.append(_Slice(part, self._weight(part, unit), _tokens(part) / max(1, _tokens(unit))))
                start += count
        any_row = torch.zeros(1, dtype=torch.long, device=rows.device)
        return slices or [_Slice(_rows(unit, any_row), 0.0, 0.0)]

    def _weight(self, part: dict[str, Any], unit: dict[str, Any]) -> float:
        """What a slice's loss counts in the unit's: TRL divides by the rows or tokens that it is shown."""
        if self.loss_type in MEAN_OVER_ROWS:
            return self._micro_batches * len(part["advantages"]) / len(unit["advantages"])
        if self.loss_type in MEAN_OVER_TOKENS:
            return self._micro_batches * _tokens(part) / max(1, _tokens(unit))
        return 1.0

    def _slice_loss(self, model: nn.Module, part: "_Slice") -> Tensor:
        accelerator, coefficient = self.accelerator, self.entropy_coef
        # TRL's loss meets the other ranks for its metrics, but they have other slices; see `_SliceMetrics.merge`.
        self.accelerator = _Alone(accelerator)
        if self._entropy_bonus_enabled and part.weight:
            # TRL averages the entropy over the tokens that it is shown, whatever it divides the policy's loss by.
            self.entropy_coef = coefficient * self._micro_batches * part.token_share / part.weight
        try:
            return super().compute_loss(model, part.rows) * part.weight
        finally:
            self.accelerator, self.entropy_coef = accelerator, coefficient

    @property
    def _micro_batches(self) -> int:
        """Of a unit."""
        return min(self.args.steps_per_generation, self.args.gradient_accumulation_steps)

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **fields: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if not self.packed:
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **fields,
            )
        split = input_ids.shape[1] - logits_to_keep
        groups = _padded_groups(
            {
                "prompt_ids": input_ids[:, :split],
                "prompt_mask": attention_mask[:, :split],
                "completion_ids": input_ids[:, split:],
                "completion_mask": attention_mask[:, split:],
            }
        )
        with engine_attention(model), self.accelerator.autocast():
            scores = [
                token_logprobs(
                    model,
                    chunk,
                    temperature=self.temperature,
                    entropies=compute_entropy,
                    entropy_gradient=self._entropy_bonus_enabled,
                    width=logits_to_keep,
                )
                for chunk in self._chunks(groups)
            ]
        logprobs = torch.cat([score.logprobs for score in scores])
        entropies = [score.entropies for score in scores if score.entropies is not None]
        return logprobs, torch.cat(entropies) if entropies else None, None

    def _chunks(self, groups: Sequence[PromptGroup]) -> Iterator[list[PromptGroup]]:
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        logits = CHUNK_LOGITS[self.accelerator.device.type]
        return split_groups(groups, self.token_budget, max(1, logits // vocabulary))

    @property
    def token_budget(self) -> int:
        """Most packed tokens forwarded and back-propagated at once."""
        return self.args.update_token_budget or (4096 if self.accelerator.device.type == "cpu" else 32_768)


@dataclass(frozen=True)
class _Slice:
    """Rows that one forward and backward covers."""

    rows: dict[str, Any]
    weight: float
    """Of TRL's loss on these rows in the unit's loss; 0 for a stand-in."""
    token_share: float
    """Of the unit's tokens."""


class _Alone:
    """An accelerator that exchanges nothing with the other ranks."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    def reduce(self, tensor: Tensor, reduction: str = "sum") -> Tensor:
        return tensor


class _SliceMetrics(PieceMetrics):
    """Of the slices of a unit. A stand-in has no tokens, and so no weight."""

    def merge(self, accelerator: Any) -> None:
        """Least, largest, or mean over tokens, as the name says, over the slices of all ranks; NaN where none was."""
        names = sorted(name for name in self.metrics if self.appended(name))
        if not names:
            return
        own = [_moments(self.collected[name]) for name in names]
        of_ranks = accelerator.gather(torch.tensor([own], dtype=torch.float64, device=accelerator.device))
        for name, table in zip(names, of_ranks.unbind(1), strict=True):
            sums, tokens, least, largest = table.unbind(1)
            if not tokens.sum():
                value = math.nan
            elif name.endswith("_min"):
                value = float(least.min())
            elif name.endswith("_max"):
                value = float(largest.max())
            else:
                value = float(sums.sum() / tokens.sum())
            self.replace(name, value)


def _moments(pairs: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Σ value · tokens, Σ tokens, least and largest value."""
    values = [value for value, _ in pairs]
    total = sum(value * tokens for value, tokens in pairs)
    return (
        total,
        sum(tokens for _, tokens in pairs),
        min(values, default=math.inf),
        max(values, default=-math.inf),
    )


def _rows(batch: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    """These rows of everything that has rows."""
    count = len(batch["completion_ids"])
    return {
        name: value[rows] if isinstance(value, Tensor) and value.dim() and len(value) == count else value
        for name, value in batch.items()
    }


def _tokens(batch: dict[str, Any]) -> int:
    """Tokens that the loss counts."""
    mask = batch["completion_mask"]
    return int((mask * batch["tool_mask"]).sum() if "tool_mask" in batch else mask.sum())


def _padded_groups(batch: dict[str, Any]) -> list[PromptGroup]:
    """Neighbouring rows with the same prompt as one group, without padding."""
    prompt_ids, prompt_mask = batch["prompt_ids"], batch["prompt_mask"]
    same = ((prompt_ids[1:] == prompt_ids[:-1]) & (prompt_mask[1:] == prompt_mask[:-1])).all(dim=1).tolist()
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    completions = batch["completion_ids"].tolist()
    groups: list[tuple[list[int], list[list[int]]]] = []
    for row, (tokens, length) in enumerate(zip(completions, lengths, strict=True)):
        if row == 0 or not same[row - 1]:
            groups.append((prompt_ids[row][prompt_mask[row].bool()].tolist(), []))
        groups[-1][1].append(tokens[: int(length)])
    return [PromptGroup(prompt, tokens) for prompt, tokens in groups]

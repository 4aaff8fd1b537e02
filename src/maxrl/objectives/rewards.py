"""Whatever the caller has → one matrix of groups × rollouts, NaN where one is missing, and the way back."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maxrl.errors import InputError, RewardError
from maxrl.objectives.arrays import ArrayLike, to_tensor


@dataclass(frozen=True, kw_only=True)
class GroupedRewards:
    """Rewards in the form that every estimator computes on."""

    rewards_GN: Float[Tensor, "groups rollouts"]
    """float32 or float64, contiguous. NaN: no such rollout, or a missing one. Never infinite."""
    cells: tuple[Int[Tensor, " flat"], Int[Tensor, " flat"]] | None
    """For flat rewards, the row and the column of each; None where the caller gave a matrix."""
    dtype: torch.dtype
    """What the caller gets back."""

    def restore(self, advantages_GN: Float[Tensor, "groups rollouts"]) -> Tensor:
        """`advantages_GN` in the caller's shape, order and dtype, with 0 for missing rollouts."""
        present_GN = ~self.rewards_GN.isnan()
        advantages = torch.where(present_GN, advantages_GN, 0.0)
        if self.cells is not None:
            advantages = advantages[self.cells]
        advantages = advantages.to(self.dtype)
        if not bool(advantages.isfinite().all()):
            raise RewardError(
                f"these rewards give advantages that {self.dtype} cannot hold; rescale them (rewards in "
                "[0, 1] are safe)"
            )
        return advantages


def group_rewards(rewards: ArrayLike, mask: ArrayLike | None, group_ids: ArrayLike | None) -> GroupedRewards:
    """Validate `rewards` and bring them into the form that every estimator computes on.

    dtype of the advantages: that of floating tensors and arrays; torch's default for integers, booleans and
    plain lists. Half precision is computed in float32: a group of 300 successes is not a bfloat16 number.

    >>> group_rewards([1.0, 0.0, 0.5], None, ["b", "a", "b"]).rewards_GN
    tensor([[1.0000, 0.5000],
            [0.0000,    nan]])
    """
    values = to_tensor(rewards, "rewards")
    keeps_dtype = isinstance(rewards, (Tensor, np.ndarray)) and values.is_floating_point()
    dtype = values.dtype if keeps_dtype else torch.get_default_dtype()
    values = values.to(torch.float64 if dtype == torch.float64 else torch.float32)
    _check_shape(values, group_ids)
    if mask is not None:
        values = values.masked_fill(~_to_mask(mask, values), torch.nan)
    if bool(values.isinf().any()):
        raise RewardError(
            "infinite rewards have no mean: no estimator is defined on them; a rollout that could not be "
            "scored is None, NaN or masked, not infinite"
        )
    if group_ids is None:
        return GroupedRewards(rewards_GN=values.contiguous(), cells=None, dtype=dtype)
    codes_R = _to_codes(group_ids, values)
    cells = _cells(codes_R)
    return GroupedRewards(rewards_GN=_scatter(values, cells), cells=cells, dtype=dtype)


def _check_shape(values: Tensor, group_ids: ArrayLike | None) -> None:
    shape = tuple(values.shape)
    if group_ids is not None and values.ndim != 1:
        raise InputError(f"rewards with group_ids must be flat, one per rollout, got shape {shape}")
    if group_ids is None and values.ndim == 1:
        raise InputError(
            f"rewards of shape {shape} do not say which rollouts belong together: give them as (groups, "
            "rollouts), as one group [[...]], or flat with group_ids=..."
        )
    if group_ids is None and values.ndim != 2:
        raise InputError(f"rewards must have shape (groups, rollouts), got {shape}")


def _to_mask(mask: ArrayLike, values: Tensor) -> Bool[Tensor, "..."]:
    """True where a rollout counts. 0 and 1 are understood too, as token masks often are integers."""
    given = to_tensor(mask, "mask")
    if given.shape != values.shape:
        raise InputError(f"mask has shape {tuple(given.shape)} but rewards have {tuple(values.shape)}")
    if not bool(((given == 0) | (given == 1)).all()):
        raise InputError("mask must be True (or 1) for rollouts that count and False (or 0) for missing ones")
    return given.to(device=values.device, dtype=torch.bool)


def _to_codes(group_ids: ArrayLike, values: Tensor) -> Int[Tensor, " flat"]:
    """Ids → 0, 1, 2, … in order of first appearance."""
    if isinstance(group_ids, (Tensor, np.ndarray)):
        group_ids = cast(Any, group_ids).tolist()
    if isinstance(group_ids, str) or not isinstance(group_ids, Iterable):
        raise InputError(f"group_ids must be one id per rollout, got {group_ids!r:.80}")
    ids = [*cast(Iterable[Any], group_ids)]
    if len(ids) != len(values):
        raise InputError(f"{len(ids)} group_ids for {len(values)} rewards: one id per rollout is needed")
    unfit = [
        t.__name__ for t in set(map(type, ids)) if t is bool or not issubclass(t, (int, np.integer, str))
    ]
    if unfit:
        raise InputError(f"group_ids must be integers or strings, got {', '.join(sorted(unfit))}")
    # Hashing rather than np.unique: that would turn [1, "1"] into one group, and sort long string ids.
    code_of: dict[Hashable, int] = dict(zip(dict.fromkeys(ids), count(), strict=False))
    return torch.tensor([*map(code_of.__getitem__, ids)], dtype=torch.int64, device=values.device)


def _cells(codes_R: Int[Tensor, " flat"]) -> tuple[Int[Tensor, " flat"], Int[Tensor, " flat"]]:
    """Row and column of each rollout: its group, and how many of its group came before it."""
    sizes = torch.bincount(codes_R)
    starts = sizes.cumsum(0) - sizes
    by_group = codes_R.argsort(stable=True)
    column_R = torch.empty_like(codes_R)
    column_R[by_group] = torch.arange(len(codes_R), device=codes_R.device) - starts[codes_R[by_group]]
    return codes_R, column_R


def _scatter(
    values_R: Float[Tensor, " flat"], cells: tuple[Int[Tensor, " flat"], Int[Tensor, " flat"]]
) -> Float[Tensor, "groups rollouts"]:
    """The matrix with `values_R` in their cells and NaN beyond the end of the smaller groups."""
    rows, columns = (int(c.max()) + 1 if len(c) else 0 for c in cells)
    return values_R.new_full((rows, columns), torch.nan).index_put(cells, values_R)

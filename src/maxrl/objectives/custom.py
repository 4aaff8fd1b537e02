"""A user's own function as an estimator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives.arrays import to_tensor
from maxrl.objectives.base import Estimator, Number


@dataclass(frozen=True, kw_only=True)
class Custom(Estimator):
    """Any function of rewards, with everything an estimator has: groups by id, masks, dtypes, its exact objective.

    The function takes rewards of shape (groups, rollouts), NaN where a rollout is missing, and returns advantages of that
    shape; what it says of missing rollouts is not looked at.

    >>> Custom(function=lambda rewards_GN: rewards_GN - 0.5)([1, 0, 1], group_ids=["a", "b", "a"])
    tensor([ 0.5000, -0.5000,  0.5000])

    Raises:
        InputError: the function returns another shape, or advantages that are not finite.
    """

    name: ClassVar[str] = "custom"
    function: Callable[..., Any]
    options: tuple[tuple[str, Any], ...] = ()
    """Keyword arguments of every call."""
    label: str | None = None
    """How it was named, for example `module:function`."""

    @property
    def formula(self) -> str:
        return self.label or getattr(self.function, "__name__", repr(self.function))

    def target_order(self, n: int) -> int | None:
        return None

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        # A copy: a function may write into what it is given.
        found = to_tensor(self.function(rewards_GN.clone(), **dict(self.options)), "advantages")
        advantages_GN = found.to(rewards_GN)
        present_GN = ~rewards_GN.isnan()
        if advantages_GN.shape != rewards_GN.shape or not bool(advantages_GN[present_GN].isfinite().all()):
            raise InputError(
                f"estimator {self.formula} must turn rewards of shape {tuple(rewards_GN.shape)} into as many finite "
                f"advantages, but returned shape {tuple(advantages_GN.shape)}, {found!r:.80}"
            )
        return advantages_GN

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        rewards_GN = torch.zeros(1, rollouts, dtype=torch.float64)
        rewards_GN[:, :successes] = 1
        advantages = self._advantages(rewards_GN)[0]
        hits, misses = advantages[:successes], advantages[successes:]
        for kind in (hits, misses):
            if not torch.allclose(kind, kind[:1].expand_as(kind), rtol=1e-6, atol=1e-9):
                raise InputError(
                    f"estimator {self.formula} treats equal rewards of a group unequally ({advantages!r:.80}), so no single "
                    "weight belongs to it"
                )
        return float(hits.mean()) if successes else 0.0, float(misses.mean()) if successes < rollouts else 0.0

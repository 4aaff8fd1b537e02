"""Estimators with memory: what they give a batch depends on the batches before it.

Such an estimator is frozen, too: it takes a state and returns the next one, and its caller keeps, advances and saves it.
Its state decides before a batch is seen which estimator without memory treats it (`given`), so that everything that is
exact about those is exact here, given the state.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives.arrays import ArrayLike
from maxrl.objectives.base import Estimator
from maxrl.objectives.rewards import group_rewards

State: TypeAlias = Mapping[str, Any]
"""What an estimator remembers, as JSON holds it. Never changed in place."""


@dataclass(frozen=True)
class EstimatorWithMemory(ABC):
    """(rewards, state) → (advantages, next state). Rewards, masks, ids and advantages are those of `Estimator`.

    Without a state it begins anew. The state belongs to one task: advance it once per batch drawn for training, with the
    rewards of all processes, and never by an evaluation.

    >>> from maxrl.objectives import GRPO, Hybrid, MaxRL
    >>> hybrid = Hybrid(first=GRPO(eps=0.0), then=MaxRL(), steps=1)
    >>> advantages, state = hybrid([[1, 0, 0, 0]])
    >>> advantages
    tensor([[ 1.5000, -0.5000, -0.5000, -0.5000]])
    >>> hybrid([[1, 0, 0, 0]], state)
    (tensor([[ 3., -1., -1., -1.]]), {'step': 2})
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def formula(self) -> str:
        """The advantage of one rollout, in one line."""

    @abstractmethod
    def initial_state(self) -> State:
        """What it remembers before the first batch."""

    @abstractmethod
    def given(self, state: State | None = None) -> Estimator:
        """The estimator without memory that the next batch meets after `state`; by default, at the beginning.

        Raises:
            InputError: `state` is none that this estimator returned.
        """

    @abstractmethod
    def _advance(self, state: State, rewards_GN: Float[Tensor, "groups rollouts"]) -> State:
        """The state after a batch; NaN rewards are missing."""

    def at_step(self, state: State, step: int) -> State:
        """`state` where `step` optimizer steps have been made: for callers who count them. Else a call counts as one."""
        return state

    @property
    def choices(self) -> tuple[Estimator, ...]:
        """What it chooses from, one at a time; empty where it is one estimator throughout."""
        return ()

    @property
    def least_rollouts(self) -> int:
        """Rollouts that every group must hold for the declared weight; see `Estimator`."""
        return max((choice.least_rollouts for choice in self.choices), default=1)

    def __call__(
        self,
        rewards: ArrayLike,
        state: State | None = None,
        mask: ArrayLike | None = None,
        *,
        group_ids: ArrayLike | None = None,
    ) -> tuple[Tensor, State]:
        advantages = self.given(state)(rewards, mask, group_ids=group_ids)
        return advantages, self.advance(state, rewards, mask, group_ids=group_ids)

    def advance(
        self,
        state: State | None,
        rewards: ArrayLike,
        mask: ArrayLike | None = None,
        *,
        group_ids: ArrayLike | None = None,
    ) -> State:
        """The state after a batch, without its advantages.

        Raises:
            InputError: `state` is none that this estimator returned.
        """
        self.given(state)  # refuses what is no state
        state = self.initial_state() if state is None else state
        return self._advance(state, group_rewards(rewards, mask, group_ids).rewards_GN)

    def _remembered(self, state: State | None, key: str, kind: type) -> Any:
        """What a state holds, or holds at the beginning where there is none.

        Raises:
            InputError: it is no state of this estimator.
        """
        found = (self.initial_state() if state is None else state).get(key) if _is_state(state) else None
        if not isinstance(found, kind):
            raise self._no_state(state)
        return found

    def _no_state(self, state: object) -> InputError:
        return InputError(
            f"{state!r:.120} is no state of estimator '{self.name}': give back one that it returned, or None"
        )


def _is_state(value: object) -> bool:
    return value is None or isinstance(value, Mapping)

"""The loss of an arm: N labels drawn per image, counted, and weighted by their advantages.

A group is an image: N labels drawn with replacement from the softmax, reward 1 for the right one y. The policy gradient loss
of one image, −(1/N) Σ_i A_i log p(label_i), knows a draw by its label alone, so that the draws are their counts c_v, and the
advantages two numbers, a_s(K) of a success and a_f(K) of a failure, with K = c_y:

    loss = −Σ_v W_v log p_v,    W_y = K·a_s(K)/N,    W_v = c_v·a_f(K)/N for v ≠ y.

Cross-entropy, which is maximum likelihood itself, has W_y = 1 and nothing else.

Suffixes: `_BV` images × labels, `_BN` images × draws, `_B` one value per image.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives import AnyEstimator, analyse, as_estimator, looks_at_batch
from maxrl.objectives.memory import EstimatorWithMemory, State

CROSS_ENTROPY = "cross_entropy"


@dataclass(frozen=True)
class Arm:
    """One thing to train by: an estimator on N labels per image, or cross-entropy."""

    name: str
    """As the report names it: `maxrl@1024`, `cross_entropy`."""
    estimator: AnyEstimator | None = None
    """None: cross-entropy, which draws nothing."""
    num_generations: int = 0
    """N, labels drawn per image."""

    @property
    def spec(self) -> str:
        """The estimator as it was given."""
        return self.name if self.estimator is None else self.name.rpartition("@")[0]


def parse_arm(spec: str, num_generations: int) -> Arm:
    """The arm that `spec` names: `cross_entropy`, or an estimator with its N as `maxrl@1024`, `maxrl(order=16)@64`.

    Args:
        spec: `module:function@128` is one of the user's own; without `@N` the arm takes `num_generations`.
        num_generations: N of arms that name none.

    Raises:
        InputError: no such estimator, N no number, or an estimator that has no signal with N labels an image.

    >>> parse_arm("maxrl", 128).name, parse_arm("maxrl(order=4)@16", 128).num_generations
    ('maxrl@128', 16)
    """
    estimator_spec, at, count = spec.strip().rpartition("@")
    if not at:
        estimator_spec, count = spec.strip(), str(num_generations)
    if estimator_spec == CROSS_ENTROPY:
        if at:
            raise InputError(f"arm {spec}: cross_entropy draws no labels, so leave out @{count}")
        return Arm(CROSS_ENTROPY)
    if not count.isdecimal() or int(count) < 1:
        raise InputError(
            f"arm {spec}: what follows @ is the number of labels drawn per image, as maxrl@128; got '{count}'"
        )
    estimator = as_estimator(estimator_spec)
    _check_signal(spec, estimator, int(count))
    return Arm(f"{estimator_spec}@{int(count)}", estimator, int(count))


def _check_signal(spec: str, estimator: AnyEstimator, n: int) -> None:
    if estimator.least_rollouts > n:
        raise InputError(
            f"arm {spec} needs at least {estimator.least_rollouts} labels per image for its weight, but draws {n}: write "
            f"@{estimator.least_rollouts} or more"
        )
    choices = estimator.choices if isinstance(estimator, EstimatorWithMemory) else ()
    if all(not any(analyse(kind, n).masses) for kind in choices or (estimator,)):
        raise InputError(f"arm {spec} has no signal with {n} label per image: draw at least 2, as maxrl@128")


def draw_labels(
    log_p_BV: Float[Tensor, "images labels"], n: int, generator: torch.Generator
) -> Int[Tensor, "images draws"]:
    """N labels per image, drawn with replacement.

    In float64: in float32 the sums of probabilities, which the draws are looked up in, lose labels below about 1e-7.
    """
    return torch.multinomial(log_p_BV.detach().double().exp(), n, replacement=True, generator=generator)


def count_labels(drawn_BN: Int[Tensor, "images draws"], labels: int) -> Float[Tensor, "images labels"]:
    """How often each label was drawn."""
    counts_BV = torch.zeros(len(drawn_BN), labels, device=drawn_BN.device)
    return counts_BV.scatter_add_(1, drawn_BN, torch.ones_like(drawn_BN, dtype=counts_BV.dtype))


def label_weights(
    counts_BV: Float[Tensor, "images labels"],
    labels_B: Int[Tensor, " images"],
    success_B: Float[Tensor, " images"],
    failure_B: Float[Tensor, " images"],
) -> Float[Tensor, "images labels"]:
    """W of the formula above, from counts and the two advantages of each image."""
    n_B1 = counts_BV.sum(dim=1, keepdim=True)
    advantages_BV = failure_B[:, None].expand_as(counts_BV).scatter(1, labels_B[:, None], success_B[:, None])
    return counts_BV * advantages_BV / n_B1


def weighted_loss(
    weights_BV: Float[Tensor, "images labels"], log_p_BV: Float[Tensor, "images labels"]
) -> Float[Tensor, ""]:
    """−Σ_v W_v log p_v, averaged over images."""
    return -(weights_BV * log_p_BV).sum(dim=1).mean()


@dataclass(frozen=True)
class Weighted:
    """The weights of one batch, and what was drawn for them."""

    weights_BV: Float[Tensor, "images labels"]
    successes_B: Float[Tensor, " images"] | None
    """K of each image; None where nothing was drawn."""


class Objective:
    """An arm in use: draws labels, weights them, and remembers what its estimator does.

    `state_dict` and `load_state_dict` carry the estimator's memory and the stream of draws through a checkpoint.
    """

    def __init__(self, arm: Arm, *, seed: int, device: torch.device) -> None:
        self.arm = arm
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self._state: State | None = None
        self._table: Tensor | None = None
        if arm.estimator is not None and not needs_batch(arm.estimator, arm.num_generations):
            pairs = analyse(arm.estimator, arm.num_generations).pairs
            self._table = torch.tensor([[float(a) for a in pair] for pair in pairs], device=device)

    def weigh(
        self, log_p_BV: Float[Tensor, "images labels"], labels_B: Int[Tensor, " images"], *, step: int
    ) -> Weighted:
        """W of a batch, after `step` optimizer steps; no gradient flows through it."""
        if self.arm.estimator is None:
            onehot_BV = torch.zeros_like(log_p_BV).scatter_(1, labels_B[:, None], 1.0)
            return Weighted(onehot_BV, None)
        drawn_BN = draw_labels(log_p_BV, self.arm.num_generations, self._generator)
        counts_BV = count_labels(drawn_BN, log_p_BV.shape[1])
        successes_B = counts_BV.gather(1, labels_B[:, None]).squeeze(1)
        success_B, failure_B = self._advantages(successes_B, step)
        return Weighted(label_weights(counts_BV, labels_B, success_B, failure_B), successes_B)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next batch depends on."""
        return {"generator": self._generator.get_state(), "memory": self._state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._generator.set_state(saved["generator"].cpu())
        self._state = saved["memory"]

    def _advantages(self, successes_B: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(a_s, a_f) of each image: from the table of all K, or of the batch where more than K decides."""
        if self._table is not None:
            success_B, failure_B = self._table[successes_B.long()].unbind(1)
            return success_B, failure_B
        n = self.arm.num_generations
        rewards_BN = (torch.arange(n, device=successes_B.device) < successes_B[:, None]).to(torch.float32)
        estimator = self.arm.estimator
        if isinstance(estimator, EstimatorWithMemory):
            state = estimator.at_step(self._state or estimator.initial_state(), step)
            advantages_BN, self._state = estimator(rewards_BN, state)
        else:
            assert estimator is not None, "cross-entropy has no advantages"
            advantages_BN = estimator(rewards_BN)
        # Sorted, successes stand first: the first draw is one where there is any, the last a failure likewise. What an
        # image does not hold is multiplied by a count of 0.
        return advantages_BN[:, 0], advantages_BN[:, -1]


def needs_batch(estimator: AnyEstimator, n: int) -> bool:
    """Whether K of an image does not decide its advantages alone."""
    return isinstance(estimator, EstimatorWithMemory) or looks_at_batch(estimator, max(2, n))

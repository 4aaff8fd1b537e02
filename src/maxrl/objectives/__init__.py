"""Estimators on groups of rewards, and what each of them really optimises: pure functions on tensors.

This room needs torch alone and knows nothing of models, text or trainers. Read it in this order:

    rewards.py            whatever the caller has (lists, arrays, flat rewards with ids) → one matrix, and back
    base.py               what every estimator is
    likelihood.py         MaxRL, of every order
    orders.py             weights that are polynomials in 1 − p, on 0/1 rewards and on likelihoods
    passes.py             pass@k and sums of it
    relatives.py          power weights, TailRL
    centred.py            GRPO, RLOO, Dr. GRPO, REINFORCE
    success_weighted.py   reward-weighted regression on what succeeded
    memory.py             what an estimator with memory is: (rewards, state) → (advantages, next state)
    curve.py              CurveRL
    switches.py           one estimator at a time: Hybrid, AdaptiveSwitch
    custom.py             a function of the user's own
    registry.py           the one dict that finds them by name
    analysis.py           the exact objective behind an estimator, w(p) in E[ĝ] = w(p)·∇p, and its noise
    expectations.py       means over the number of successes
    pass_rates.py         pass@k without bias
    diagnostics.py        what a batch of groups says about training
    arrays.py             numbers in any container → a tensor, or an error that says what is wrong

To add an estimator: write its class in the file of its idea, one entry in `registry.py`, one row in
`tests/exact/test_expectations.py`. The conformance suite finds it through `ESTIMATORS`.

Legend of array suffixes, here and in every room:

    _GN    groups × rollouts; NaN marks a rollout that is missing from its group
    _G1    one value per group, kept broadcastable against _GN
    _R     flat rollouts, in the caller's order
    _BT    rows × tokens
    _BTV   rows × tokens × vocabulary

Letters in formulas: r a reward, N the rollouts of a group, r̂ their mean, K the successes among them (binary
rewards), p the true pass rate, ĝ = (1/N) Σ A_i ∇log π(y_i) the gradient that advantages A produce, and
w_T(p) = (1 − (1−p)^T)/p the weight of truncation order T: T = 1 is plain RL, T → ∞ is maximum likelihood.
"""

from maxrl.objectives.analysis import (
    ExactAnalysis,
    advantage_mass,
    analyse,
    effective_weight,
    looks_at_batch,
    order_weight,
    second_moment,
    target_order,
    utility,
)
from maxrl.objectives.base import Estimator
from maxrl.objectives.centred import GRPO, RLOO, DrGRPO, Reinforce
from maxrl.objectives.curve import CurveRL
from maxrl.objectives.custom import Custom
from maxrl.objectives.likelihood import MaxRL
from maxrl.objectives.memory import EstimatorWithMemory, State
from maxrl.objectives.pass_rates import pass_at_k
from maxrl.objectives.passes import MMPO, PassAtK
from maxrl.objectives.registry import ALIASES, ESTIMATORS, AnyEstimator, as_estimator, get_estimator
from maxrl.objectives.relatives import PowerWeight, TailRL
from maxrl.objectives.success_weighted import SuccessWeighted
from maxrl.objectives.switches import AdaptiveSwitch, Hybrid

__all__ = [
    "ALIASES",
    "ESTIMATORS",
    "GRPO",
    "MMPO",
    "RLOO",
    "AdaptiveSwitch",
    "AnyEstimator",
    "CurveRL",
    "Custom",
    "DrGRPO",
    "Estimator",
    "EstimatorWithMemory",
    "ExactAnalysis",
    "Hybrid",
    "MaxRL",
    "PassAtK",
    "PowerWeight",
    "Reinforce",
    "State",
    "SuccessWeighted",
    "TailRL",
    "advantage_mass",
    "analyse",
    "as_estimator",
    "effective_weight",
    "get_estimator",
    "looks_at_batch",
    "order_weight",
    "pass_at_k",
    "second_moment",
    "target_order",
    "utility",
]

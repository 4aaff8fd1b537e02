"""verl: every estimator, registered as verl is imported, in the driver and in each of its Ray workers.

verl loads the entry-point group `verl.plugins`, where maxrl names this module: installing maxrl beside verl is all there is
to do. Then

    algorithm.adv_estimator=maxrl

or `maxrl/NAME` for each estimator of `maxrl.objectives`, and under plain names those that verl leaves free. Options come
from `algorithm.maxrl`:

    algorithm.adv_estimator=maxrl/mmpo +algorithm.maxrl.order=8
    algorithm.adv_estimator=maxrl +algorithm.maxrl.correctness_threshold=0.5

With `VERL_USE_EXTERNAL_PLUGINS=none` verl loads no plug-ins; `VERL_USE_EXTERNAL_MODULES=maxrl.integrations.verl` does the
same as the entry point. verl says at level DEBUG alone why a plug-in was not loaded: `maxrl doctor --engine verl` tells.

Tested with verl 0.9.1 on the CPU (`make test-integrations`).
"""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

from maxrl.integrations.outcome import OutcomeAdvantage, parameters_of
from maxrl.objectives import ALIASES, ESTIMATORS

AdvantageFunction: TypeAlias = Callable[..., tuple[Tensor, Tensor]]

PREFIX = "maxrl/"


def advantage_function(name: str) -> AdvantageFunction:
    """An estimator as verl calls it, by keyword: (advantages, returns), both (bs, response length)."""

    def compute(
        token_level_rewards: Tensor, response_mask: Tensor, config: Any = None, index: Any = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        estimator = OutcomeAdvantage(name, parameters_of(config))
        advantages = estimator(token_level_rewards, response_mask, index)
        return advantages, advantages

    compute.__name__ = f"maxrl_{name}"
    compute.__doc__ = f"{ESTIMATORS[name].__name__} of maxrl; options from algorithm.maxrl."
    return compute


def names() -> dict[str, str]:
    """What we call ourselves in verl → estimator: `maxrl/…` for all, and the plain names and spellings."""
    spellings = {**{name: name for name in ESTIMATORS}, **ALIASES}
    return {**{f"{PREFIX}{spelling}": name for spelling, name in spellings.items()}, **spellings}


def register() -> list[str]:
    """Register every estimator with verl under the names that are free; what is taken stays as it is. Returns ours."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, register_adv_est

    functions = {name: advantage_function(name) for name in ESTIMATORS}
    for free, name in names().items():
        if free not in ADV_ESTIMATOR_REGISTRY:
            register_adv_est(free)(functions[name])
    return [name for name in names() if ADV_ESTIMATOR_REGISTRY[name].__module__ == __name__]


if "verl" in sys.modules:  # it is verl that imports us, by VERL_USE_EXTERNAL_MODULES
    register()


def __getattr__(name: str) -> Any:
    # verl loads the entry point and calls nothing. A module that somebody imported before verl would not run again: the
    # attribute that the entry point names registers when it is looked up.
    if name == "plugin":
        register()
        return register
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

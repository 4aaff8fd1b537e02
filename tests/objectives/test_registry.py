"""Estimators by name."""

from typing import Any

import pytest
import torch

from maxrl.errors import InputError
from maxrl.objectives import (
    ALIASES,
    ESTIMATORS,
    GRPO,
    Estimator,
    MaxRL,
    Reinforce,
    get_estimator,
)

pytestmark = pytest.mark.usefixtures("as_users_run_it")


def test_names() -> None:
    assert list(ESTIMATORS) == ["maxrl", "grpo", "rloo", "dr_grpo", "reinforce", "power_weight", "tail_rl"]
    assert all(cls.name == name for name, cls in ESTIMATORS.items())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_name_builds_its_class(name: str) -> None:
    built = get_estimator(name)
    assert type(built) is ESTIMATORS[name]
    assert built == ESTIMATORS[name]()


def test_aliases_lead_to_names_and_hide_none() -> None:
    assert ALIASES["max_rl"] == "maxrl"
    assert ALIASES["drgrpo"] == "dr_grpo"
    assert set(ALIASES.values()) <= set(ESTIMATORS)
    assert not set(ALIASES) & set(ESTIMATORS)


@pytest.mark.parametrize("spelling", ["max_rl", "max-rl", "MaxRL", "MAX_RL", "maxrl"])
def test_spellings(spelling: str) -> None:
    assert get_estimator(spelling) == MaxRL()


def test_options() -> None:
    assert get_estimator("grpo", ddof=0, eps=1e-6) == GRPO(ddof=0, eps=1e-6)
    assert get_estimator("max_rl", no_success="penalize") == MaxRL(no_success="penalize")
    assert get_estimator(MaxRL, control_variate=False) == MaxRL(control_variate=False)


def test_what_is_built_passes_through() -> None:
    def mine(rewards: torch.Tensor) -> torch.Tensor:
        return rewards

    estimator = GRPO(ddof=0)
    assert get_estimator(estimator) is estimator
    assert get_estimator(mine) is mine
    for spec in (estimator, mine):
        with pytest.raises(InputError, match="already built: ddof cannot be set"):
            get_estimator(spec, ddof=1)


@pytest.mark.parametrize(
    ("spec", "options", "match"),
    [
        ("maxlr", {}, r"unknown estimator 'maxlr'; did you mean 'maxrl'\? \(known: dr_grpo, grpo, maxrl"),
        ("", {}, "unknown estimator ''"),
        ("grpo", {"ddoff": 0}, r"unknown option of estimator 'grpo' 'ddoff'; did you mean 'ddof'\?"),
        (
            "maxrl",
            {"x": 0},
            r"unknown option of estimator 'maxrl' 'x' \(known: control_variate, no_success, order\)",
        ),
        ("rloo", {"ddof": 0, "eps": 1}, "estimator 'rloo' takes no options, got ddof, eps"),
        ("grpo", {"ddof": 3}, "ddof must be 0 or 1"),
        (None, {}, "an estimator is a name .*, an instance such as MaxRL"),
        (3, {}, "an estimator is a name"),
        (dict, {}, "an estimator is a name"),
    ],
)
def test_what_is_no_estimator_is_refused(spec: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        get_estimator(spec, **options)


def test_a_subclass_of_the_users_own_needs_no_registration() -> None:
    class Mine(Reinforce):
        pass

    assert isinstance(get_estimator(Mine), Estimator)

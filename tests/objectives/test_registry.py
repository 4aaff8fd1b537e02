"""Estimators by name."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from maxrl.errors import InputError
from maxrl.objectives import (
    ALIASES,
    ESTIMATORS,
    GRPO,
    AdaptiveSwitch,
    Custom,
    Estimator,
    Hybrid,
    MaxRL,
    PassAtK,
    Reinforce,
    SuccessWeighted,
    as_estimator,
    get_estimator,
)

pytestmark = pytest.mark.usefixtures("as_users_run_it")


def test_names() -> None:
    assert set(ESTIMATORS) == {
        "maxrl",
        "grpo",
        "rloo",
        "dr_grpo",
        "reinforce",
        "pass_at_k",
        "mmpo",
        "power_weight",
        "tail_rl",
        "curve_rl",
        "success_weighted",
        "hybrid",
        "adaptive_switch",
    }
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


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("maxrl(order=4)", MaxRL(order=4)),
        ("Max-RL( order = 4, control_variate=False )", MaxRL(order=4, control_variate=False)),
        ('maxrl(no_success="penalize")', MaxRL(no_success="penalize")),
        ("maxrl()", MaxRL()),
        ("grpo(eps=1e-6, ddof=0)", GRPO(ddof=0, eps=1e-6)),
        ("pkpo(k=3)", PassAtK(k=3)),
        ("success_weighted(threshold=-4.5)", SuccessWeighted(threshold=-4.5)),
        (
            "hybrid(first=grpo(eps=0.0), then=max_rl(order=8), steps=50)",
            Hybrid(first=GRPO(eps=0.0), then=MaxRL(order=8), steps=50),
        ),
        ('adaptive_switch(above="maxrl(order=2)", at=0.25)', AdaptiveSwitch(above=MaxRL(order=2), at=0.25)),
    ],
)
def test_options_within_the_name(spec: str, expected: Any) -> None:
    assert get_estimator(spec) == expected


def test_options_beside_the_name() -> None:
    assert get_estimator("maxrl(order=4)", control_variate=False) == MaxRL(order=4, control_variate=False)
    assert get_estimator("hybrid", then="maxrl(order=8)", first=GRPO()) == Hybrid(then=MaxRL(order=8))
    with pytest.raises(InputError, match=r"'maxrl\(order=4\)' has order given apart from it, too"):
        get_estimator("maxrl(order=4)", order=8)


@pytest.mark.parametrize(
    "spec",
    [
        "maxrl(order=1, order=2)",
        "hybrid(first=my_module:mine)",
        "maxrl(4)",
        "maxrl(order=4",
        "maxrl(order=4))",
        "maxrl(order=)",
        "maxrl()()",
        "maxrl(**x)",
        "maxrl(order=4) + 1",
    ],
)
def test_what_is_no_call_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match=r"must read name\(option=value, …\), as maxrl\(order=4\)"):
        get_estimator(spec)


def test_a_callable_as_an_estimator() -> None:
    def mine(rewards: torch.Tensor) -> torch.Tensor:
        return rewards

    assert as_estimator(mine) == Custom(function=mine)
    assert as_estimator("maxrl(order=2)") == MaxRL(order=2)
    assert as_estimator(Hybrid()) == Hybrid()
    assert Hybrid(first=as_estimator(mine)).given() == Custom(function=mine)


OWN = """
from maxrl.objectives import MaxRL, Reinforce

def halved(rewards_GN, factor=0.5):
    return rewards_GN * factor

def nothing():
    pass

class Mine(Reinforce):
    pass

ready = MaxRL(order=2)
number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the working directory."""
    (tmp_path / "estimators_of_mine.py").write_text(OWN)
    (tmp_path / "broken_of_mine.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    yield "estimators_of_mine"
    sys.modules.pop("estimators_of_mine", None)


def test_a_users_own_by_module_and_name(own: str) -> None:
    estimator = get_estimator(f"{own}:halved")
    assert estimator([[1, 0]]).tolist() == [[0.5, 0.0]]
    assert estimator.formula == f"{own}:halved"
    assert get_estimator(f"{own}:halved", factor=3.0)([[1, 0]]).tolist() == [[3.0, 0.0]]
    assert get_estimator(f"{own}:Mine")([[1, 0]]).tolist() == [[1.0, 0.0]]
    assert get_estimator(f"{own}:ready") == MaxRL(order=2)
    assert get_estimator("hybrid", first=f"{own}:halved").given()([[1, 0]]).tolist() == [[0.5, 0.0]]
    assert get_estimator(f"hybrid(first='{own}:halved')").first == estimator
    assert get_estimator(f"{own}:halved(factor=3.0)")([[1, 0]]).tolist() == [[3.0, 0.0]]
    assert get_estimator(f"{own}:Mine()")([[1, 0]]).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("given", [{"facto": 3.0}, {"rewards_GN": 3.0}])
def test_options_that_a_users_own_does_not_take(own: str, given: dict[str, float]) -> None:
    [option] = given
    with pytest.raises(InputError, match=rf"'{own}:halved' cannot be called with rewards and {option}: "):
        get_estimator(f"{own}:halved", **given)
    with pytest.raises(InputError, match="given apart from it, too"):
        get_estimator(f"{own}:halved(factor=1.0)", factor=2.0)


def test_a_function_without_rewards_is_refused(own: str) -> None:
    with pytest.raises(InputError, match="cannot be called with rewards and no options: too many positional"):
        get_estimator(f"{own}:nothing")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("estimators_of_mine:absent", "cannot load the estimator 'estimators_of_mine:absent': .*absent"),
        ("nowhere_to_be_found:f", "cannot load the estimator 'nowhere_to_be_found:f': No module named"),
        ("broken_of_mine:f", "cannot load the estimator 'broken_of_mine:f': invalid syntax"),
        (":f", "cannot load the estimator ':f': Empty module name"),
        ("estimators_of_mine:number", "an estimator is a name .*got 3"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_cannot_be_loaded_is_refused(name: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        get_estimator(name)


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
        ("maxlr", {}, r"unknown estimator 'maxlr'; did you mean 'maxrl'\? \(known: adaptive_switch"),
        ("", {}, "unknown estimator ''"),
        ("grpo", {"ddoff": 0}, r"unknown option of estimator 'grpo' 'ddoff'; did you mean 'ddof'\?"),
        (
            "maxrl",
            {"x": 0},
            r"unknown option of estimator 'maxrl' 'x' \(known: control_variate, no_success, order\)",
        ),
        ("hybrid", {"first": "grop"}, "unknown estimator 'grop'; did you mean 'grpo'"),
        ("hybrid", {"first": "curve_rl"}, "first must be an estimator without memory"),
        ("maxrl(order=1 + 1)", {}, r"has '1 \+ 1', which is no number, text or estimator"),
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

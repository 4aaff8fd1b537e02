"""What every estimator promises, whatever its formula. A new one joins through `ESTIMATORS`."""

import copy
import json
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maxrl.errors import InputError, RewardError
from maxrl.objectives import (
    ESTIMATORS,
    GRPO,
    MMPO,
    RLOO,
    CurveRL,
    Custom,
    Estimator,
    EstimatorWithMemory,
    MaxRL,
    PassAtK,
    SuccessWeighted,
    get_estimator,
)

# Forms to test beside the default one.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "maxrl": [
        {"no_success": "penalize"},
        {"control_variate": False},
        {"order": 3},
        {"order": 5, "control_variate": False},
    ],
    "pass_at_k": [{"k": 1}, {"k": 2}],
    "mmpo": [{"order": 2}],
    "power_weight": [{"q": 0.0}, {"q": 1.0}],
    "grpo": [{"ddof": 0, "eps": 1e-6}, {"eps": 0.0}],
    "success_weighted": [
        {"scope": "group"},
        {"scope": "group", "normalized": True, "temperature": 0.5},
        {"scope": "group", "threshold": -0.5, "temperature": 2.0},
        {"threshold": 0.25, "temperature": 2.0},
        {"normalized": True},
    ],
}
REGISTERED = [
    get_estimator(name, **options) for name in ESTIMATORS for options in [{}, *OPTIONS.get(name, [])]
]
WITH_MEMORY = [estimator for estimator in REGISTERED if isinstance(estimator, EstimatorWithMemory)]
FORMS = [
    *(estimator for estimator in REGISTERED if isinstance(estimator, Estimator)),
    CurveRL().given(),
    CurveRL().given({"pass_rates": [[0.25, 0.5, 0.5, 0.2], [0.75, 0.1]]}),
    Custom(function=RLOO()),
]
PER_GROUP = [e for e in FORMS if not (isinstance(e, SuccessWeighted) and e.scope == "batch")]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NAN = float("nan")

every_form = pytest.mark.parametrize("estimator", FORMS, ids=repr)
each_group_alone = pytest.mark.parametrize("estimator", PER_GROUP, ids=repr)
fixed = settings(derandomize=True, deadline=None, max_examples=15, database=None)

# Eighths: sums and differences of them are exact, so that results may be compared closely.
eighths = st.integers(0, 8).map(lambda i: i / 8)


@st.composite
def batches(draw: st.DrawFn, cells: st.SearchStrategy[float] = eighths) -> Tensor:
    groups, rollouts = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    row = st.lists(cells, min_size=rollouts, max_size=rollouts)
    return torch.tensor(draw(st.lists(row, min_size=groups, max_size=groups)), dtype=torch.float64)


@st.composite
def gappy_batches(draw: st.DrawFn) -> Tensor:
    return draw(batches(st.one_of(eighths, st.just(NAN))))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def flat_with_ids(rewards_GN: Tensor, order: list[int], as_strings: bool) -> tuple[Tensor, list[int | str]]:
    """The rollouts that are there, in the given order, with an id each that says nothing of its position."""
    rows = torch.arange(len(rewards_GN)).repeat_interleave(rewards_GN.shape[1])
    ids = [int(row) * -7 + 3 for row in rows[order]]
    return rewards_GN.flatten()[order], [f"prompt {i}" for i in ids] if as_strings else ids


@every_form
@fixed
@given(rewards=gappy_batches(), data=st.data())
def test_permuting_rollouts_and_groups_permutes_advantages(
    estimator: Estimator, rewards: Tensor, data: st.DataObject
) -> None:
    within = data.draw(st.permutations(range(rewards.shape[1])))
    among = data.draw(st.permutations(range(rewards.shape[0])))
    close(estimator(rewards[:, within]), estimator(rewards)[:, within])
    close(estimator(rewards[among]), estimator(rewards)[among])


@each_group_alone
@fixed
@given(rewards=gappy_batches())
def test_a_group_knows_nothing_of_the_others(estimator: Estimator, rewards: Tensor) -> None:
    alone = torch.cat([estimator(row[None]) for row in rewards])
    close(estimator(rewards), alone)


@every_form
@fixed
@given(rewards=gappy_batches())
def test_a_missing_rollout_changes_nothing_for_the_others(estimator: Estimator, rewards: Tensor) -> None:
    advantages = estimator(rewards)
    assert (advantages[rewards.isnan()] == 0).all()
    there = ~rewards.isnan()
    ids = torch.arange(len(rewards))[:, None].expand_as(rewards)
    close(advantages[there], estimator(rewards[there], group_ids=ids[there]))
    for row, got in zip(rewards, advantages, strict=True):
        if estimator in PER_GROUP:
            close(got[~row.isnan()][None], estimator(row[~row.isnan()][None]))


@every_form
@fixed
@given(rewards=gappy_batches(), hidden=st.sampled_from([0.0, 1.0, -5.0, float("inf"), NAN]))
def test_a_mask_says_the_same_as_nan_and_none(estimator: Estimator, rewards: Tensor, hidden: float) -> None:
    mask = ~rewards.isnan()
    masked = torch.where(mask, rewards, hidden)
    expected = estimator(rewards)
    assert torch.equal(estimator(masked, mask), expected)
    assert torch.equal(estimator(masked, mask.int()), expected)
    assert torch.equal(estimator(masked.numpy(), mask=mask.numpy()), expected)
    nones = [[None if r != r else r for r in row] for row in rewards.tolist()]
    assert torch.equal(estimator(nones), estimator(rewards.float()))


@every_form
@fixed
@given(rewards=gappy_batches(), as_strings=st.booleans(), data=st.data())
def test_flat_rewards_with_ids_are_grouped_by_id_in_any_order(
    estimator: Estimator, rewards: Tensor, as_strings: bool, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(rewards.numel())))
    flat, ids = flat_with_ids(rewards, order, as_strings)
    close(estimator(flat, group_ids=ids), estimator(rewards).flatten()[order])


@every_form
@fixed
@given(rewards=gappy_batches(), as_strings=st.booleans(), data=st.data())
def test_flat_groups_may_differ_in_size(
    estimator: Estimator, rewards: Tensor, as_strings: bool, data: st.DataObject
) -> None:
    order = data.draw(st.permutations([i for i, r in enumerate(rewards.flatten()) if r == r]))
    flat, ids = flat_with_ids(rewards, order, as_strings)
    close(estimator(flat, group_ids=ids), estimator(rewards).flatten()[order])


@every_form
@fixed
@given(rewards=batches(), data=st.data())
def test_flat_mask(estimator: Estimator, rewards: Tensor, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(rewards.numel())))
    flat, ids = flat_with_ids(rewards, order, as_strings=False)
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(flat), max_size=len(flat))))
    assert torch.equal(
        estimator(flat, mask, group_ids=ids), estimator(flat.masked_fill(~mask, NAN), group_ids=ids)
    )


@every_form
def test_ids_come_as_lists_arrays_or_tensors(estimator: Estimator) -> None:
    rewards, ids = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0]), [8, -2, 8, 8, -2]
    expected = estimator(rewards, group_ids=ids)
    names = [str(i) for i in ids]
    others = [
        torch.tensor(ids),
        np.array(ids),
        tuple(ids),
        names,
        np.array(names),
        np.array(names, dtype=object),
    ]
    for same in others:
        assert torch.equal(estimator(rewards, group_ids=same), expected)


@every_form
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_floating_tensor_keeps_its_dtype_and_device(
    estimator: Estimator, dtype: torch.dtype, device: str
) -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, NAN], [0.5, 1.0, 0.25, 0.0]], dtype=dtype, device=device)
    expected = estimator(rewards.double()).to(dtype)
    for advantages in (
        estimator(rewards),
        estimator(rewards.flatten(), group_ids=[0, 0, 0, 0, 1, 1, 1, 1]).view(2, 4),
    ):
        assert (advantages.dtype, advantages.device) == (dtype, rewards.device)
        torch.testing.assert_close(advantages, expected)


@every_form
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_integers_and_booleans_become_the_default_dtype(estimator: Estimator, dtype: torch.dtype) -> None:
    rewards = torch.tensor([[1, 0, 0], [1, 1, 0]], dtype=dtype)
    assert torch.equal(estimator(rewards), estimator(rewards.float()))
    assert torch.equal(estimator(rewards.numpy()), estimator(rewards.float()))


@every_form
def test_lists_arrays_and_tensors_agree(estimator: Estimator) -> None:
    rewards = [[1.0, 0.25, 0.0], [0.5, 0.0, 0.75]]
    expected = estimator(torch.tensor(rewards))
    assert expected.dtype == torch.get_default_dtype()
    assert torch.equal(estimator(rewards), expected)
    assert torch.equal(estimator(tuple(map(tuple, rewards))), expected)
    assert torch.equal(estimator(np.array(rewards, dtype=np.float32)), expected)
    assert torch.equal(estimator(np.array(rewards)), estimator(torch.tensor(rewards, dtype=torch.float64)))
    assert torch.equal(estimator([*torch.tensor(rewards)]), expected)


@every_form
def test_half_precision_is_computed_in_float32(estimator: Estimator) -> None:
    # 301 is no bfloat16 number (its 8 bits end at 256): sums in bfloat16 would be off by percents.
    rewards = torch.tensor([[1.0] * 301 + [0.0] * 46], dtype=torch.bfloat16)
    assert torch.equal(estimator(rewards), estimator(rewards.float()).bfloat16())


@every_form
def test_memory_layout_and_gradients_do_not_matter(estimator: Estimator) -> None:
    # Enough of them for torch to add in another order along a strided row, with another last bit.
    rewards = torch.rand(64, 300, generator=torch.Generator().manual_seed(0))
    expected = estimator(rewards)
    assert torch.equal(estimator(rewards.t().contiguous().t()), expected)
    advantages = estimator(rewards.clone().requires_grad_())
    assert torch.equal(advantages, expected)
    assert not advantages.requires_grad
    backwards = np.asfortranarray(rewards.numpy())[:, ::-1].astype(">f4")
    assert torch.equal(estimator(backwards), estimator(rewards.flip(1)))


@every_form
def test_inputs_are_left_as_they_are(estimator: Estimator) -> None:
    rewards = torch.tensor([[1.0, 0.0, NAN], [0.0, 0.0, 0.5]])
    mask = torch.tensor([[True, True, True], [True, False, True]])
    for inputs in (
        (rewards, mask, None),
        (rewards.numpy(), mask.numpy(), None),
        (rewards.tolist(), mask.tolist(), None),
        (rewards.flatten(), mask.flatten(), torch.tensor([2, 1, 2, 1, 1, 2])),
        (rewards.double(), None, None),
    ):
        before = copy.deepcopy(inputs)
        advantages = estimator(inputs[0], inputs[1], group_ids=inputs[2])
        advantages += 1  # what comes back shares no memory with what went in
        for now, then in zip(inputs, before, strict=True):
            if now is not None:
                np.testing.assert_array_equal(np.asarray(now), np.asarray(then))


@every_form
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_an_empty_batch_gives_an_empty_batch(estimator: Estimator, shape: tuple[int, int]) -> None:
    assert estimator(torch.zeros(shape)).shape == shape
    assert estimator(np.zeros(shape)).dtype == torch.float64


@every_form
def test_no_flat_rewards_give_no_advantages(estimator: Estimator) -> None:
    assert estimator([], group_ids=[]).shape == (0,)
    assert estimator(torch.zeros(0), group_ids=torch.zeros(0)).shape == (0,)


def takes_likelihoods(estimator: Estimator) -> bool:
    curve = type(CurveRL().given())
    return isinstance(estimator, (PassAtK, MMPO, curve)) or (
        isinstance(estimator, MaxRL) and estimator.order is not None
    )


@every_form
@pytest.mark.parametrize("n", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 3.3])
def test_a_constant_group_gets_what_its_formula_says(estimator: Estimator, n: int, value: float) -> None:
    value = min(value, 1.0) if takes_likelihoods(estimator) else value
    advantages = estimator([[value] * n])
    success, failure = (float(a) for a in estimator.binary_advantages(n if value else 0, n))
    if isinstance(estimator, SuccessWeighted):
        assert advantages.tolist() == [[1.0 if value > estimator.threshold else 0.0] * n]
    elif value == 0.0:
        assert advantages.tolist() == [[failure] * n]
    elif success != 0.0:  # no baseline
        assert (advantages > 0).all()
    elif isinstance(estimator, GRPO) and estimator.eps > 0:  # the rounding of the mean over eps, as in TRL
        assert advantages.abs().max() <= value * torch.finfo(torch.float32).eps / estimator.eps
    else:
        assert advantages.tolist() == [[0.0] * n]  # exactly: whether a group is live depends on it


@every_form
def test_a_group_of_missing_rollouts_gets_zeros(estimator: Estimator) -> None:
    assert estimator([[None, NAN], [1.0, 0.0]])[0].tolist() == [0.0, 0.0]


@every_form
@pytest.mark.parametrize("bad", [float("inf"), float("-inf")])
def test_infinite_rewards_are_refused(estimator: Estimator, bad: float) -> None:
    with pytest.raises(RewardError, match="infinite rewards"):
        estimator([[1.0, bad]])
    with pytest.raises(RewardError, match="infinite rewards"):
        estimator([1.0, bad], group_ids=[0, 0])


@every_form
@pytest.mark.parametrize(
    ("rewards", "match"),
    [
        (1.0, r"must have shape \(groups, rollouts\), got \(\)"),
        ([1.0, 0.0], "flat with group_ids"),
        ([[[1.0, 0.0]]], r"must have shape \(groups, rollouts\), got \(1, 1, 2\)"),
        ([[1.0, 0.0], [1.0]], "rows of equal length"),
        ([["1", "0"]], "must be numbers"),
        ([["right", None]], "must be numbers"),
        ([[1 + 2j]], "must be numbers"),
        (torch.zeros(1, 2, dtype=torch.complex64), "must be real numbers"),
        (None, "must have shape"),
        ("many", "must be numbers"),
    ],
)
def test_other_shapes_and_types_are_refused(estimator: Estimator, rewards: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        estimator(rewards)


@pytest.mark.parametrize("estimator", [e for e in FORMS if takes_likelihoods(e)], ids=repr)
def test_what_is_no_likelihood_is_refused(estimator: Estimator) -> None:
    with pytest.raises(RewardError, match="not defined on negative rewards"):
        estimator([[1.0, -0.5]])
    with pytest.raises(RewardError, match=r"defined on rewards in \[0, 1\] \(got 1.5\)"):
        estimator([[1.5, 0.0]])


@pytest.mark.parametrize("estimator", REGISTERED, ids=repr)
def test_is_frozen_comparable_and_described(estimator: Any) -> None:
    cls = type(estimator)
    assert ESTIMATORS[estimator.name] is cls
    assert estimator == copy.deepcopy(estimator)
    assert len({estimator, copy.deepcopy(estimator)}) == 1
    with pytest.raises(FrozenInstanceError):
        estimator.name = "other"
    assert estimator.formula
    assert "\n" not in estimator.formula
    for part in ("Formula:", "Gradient:", "Assumptions:", "Zero signal:", "Paper:", "Shapes:", ">>> "):
        assert part in (cls.__doc__ or "")


def test_forms_of_an_estimator_are_told_apart() -> None:
    assert len({(e.name, e.formula) for e in FORMS}) == len(FORMS)


@pytest.mark.parametrize("estimator", WITH_MEMORY, ids=repr)
@fixed
@given(batches=st.lists(gappy_batches(), min_size=1, max_size=4), data=st.data())
def test_memory_is_what_is_handed_on(
    estimator: EstimatorWithMemory, batches: list[Tensor], data: st.DataObject
) -> None:
    """Advantages are those of the estimator that the state gives; a state is JSON, and never changed."""
    state: Any = None
    for rewards in batches:
        before = copy.deepcopy(state)
        advantages, following = estimator(rewards, state)
        assert torch.equal(advantages, estimator.given(state)(rewards))
        assert state == before
        order = data.draw(st.permutations(range(rewards.numel())))
        flat, ids = flat_with_ids(rewards, order, as_strings=False)
        shuffled, same = estimator(flat, state, group_ids=ids)
        close(shuffled, advantages.flatten()[order])
        assert sorted_leaves(same) == sorted_leaves(following)
        again, masked = estimator(torch.where(rewards.isnan(), 0.5, rewards), state, ~rewards.isnan())
        assert torch.equal(again, advantages)
        assert masked == following
        state = json.loads(json.dumps(following))
        assert state == following


def sorted_leaves(state: Any) -> Any:
    """A state, whatever the order of the groups."""
    return {
        key: [sorted(batch) for batch in value] if isinstance(value, list) else value
        for key, value in state.items()
    }


@pytest.mark.parametrize("estimator", WITH_MEMORY, ids=repr)
@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"step": "1"},
        {"above": 1},
        {"pass_rates": 3},
        {"pass_rates": [0.5]},
        {"pass_rates": [["0.5"]]},
        {"pass_rates": [[0.5, 1.0]]},
        {"pass_rates": [[NAN]]},
        {"step": -1},
        {"step": True},
    ],
)
def test_a_state_of_something_else_is_refused(estimator: EstimatorWithMemory, wrong: Any) -> None:
    with pytest.raises(InputError, match=rf"is no state of estimator '{estimator.name}': give back one"):
        estimator([[1.0, 0.0]], wrong)

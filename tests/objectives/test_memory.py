"""Estimators with memory: what they remember, and what follows from it."""

import re
from fractions import Fraction
from typing import Any

import pytest
import torch

from maxrl.errors import InputError
from maxrl.objectives import (
    GRPO,
    MMPO,
    RLOO,
    AdaptiveSwitch,
    CurveRL,
    Custom,
    Hybrid,
    MaxRL,
    PassAtK,
    SuccessWeighted,
    effective_weight,
)

NAN = float("nan")


class TestCurveRL:
    def test_by_hand(self) -> None:
        # N = 4, five bins: ¼ in bin ⌊1.25⌋ = 1, ½ in 2, ¾ in 3. Of the window ¼ ½ ½ ¾ the bins hold 1, 2, 1 and up to them
        # are 1, 3, 4, so f/F = 1, 2/3, 1/4.
        _, state = CurveRL()([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0] * 4, [1] * 4])
        assert state == {"pass_rates": [[0.25, 0.5, 0.5, 0.75]]}
        advantages, state = CurveRL()([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], state)
        expected = [[0.75, -0.25, -0.25, -0.25], [1 / 3, 1 / 3, -1 / 3, -1 / 3], [1 / 16] * 3 + [-3 / 16]]
        torch.testing.assert_close(advantages, torch.tensor(expected))
        assert state == {"pass_rates": [[0.25, 0.5, 0.5, 0.75], [0.25, 0.5, 0.75]]}

    def test_the_batch_itself_does_not_decide(self) -> None:
        """A prompt among none like it gets nothing, however many the batch holds."""
        state = {"pass_rates": [[0.5]]}
        advantages, _ = CurveRL()([[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], state)
        assert not advantages.any()

    def test_a_uniform_reference_is_maxrl_over_n(self) -> None:
        rewards = [[1.0] * k + [0.0] * (6 - k) for k in range(7)]
        uniform = {"pass_rates": [[k / 6 for k in range(1, 6)]]}
        for state in (uniform, None, {"pass_rates": [[], []]}):
            torch.testing.assert_close(CurveRL()(rewards, state)[0], MaxRL()(rewards) / 6)
            third = Fraction(1, 3)
            weight = effective_weight(CurveRL().given(state), third, 6)
            assert weight == effective_weight(MaxRL(), third, 6) / 6

    def test_the_window_forgets(self) -> None:
        state: Any = None
        for _ in range(3):
            _, state = CurveRL(window=2)([[1, 0], [1, 1]], state)
        assert state == {"pass_rates": [[0.5], [0.5]]}
        _, state = CurveRL(2)([[0, 0]], state)
        assert state == {"pass_rates": [[0.5], []]}

    def test_missing_rollouts_leave_the_pass_rate(self) -> None:
        _, state = CurveRL()([[1, NAN, 0, NAN], [1, NAN, NAN, NAN], [NAN] * 4])
        assert state == {"pass_rates": [[0.5]]}

    def test_every_pass_rate_finds_its_bin(self) -> None:
        for n in (2, 5, 8, 11, 17):
            for k in range(1, n):
                own = CurveRL().given({"pass_rates": [[k / n] * 3]})
                assert own.binary_advantages(k, n)[0] == Fraction(n - k, n)

    def test_a_rate_of_groups_of_another_size_finds_its_bin(self) -> None:
        # 1/49 · 49 is .999… in floating point; it belongs to bin 1, as 1/48 does with N = 48.
        assert 1 / 49 * 49 < 1
        estimator = CurveRL().given({"pass_rates": [[1 / 49]]})
        assert estimator.binary_advantages(1, 48)[0] == Fraction(47, 48)
        assert estimator([[1.0] + [0.0] * 47])[0, 0].item() == pytest.approx(47 / 48)

    def test_what_it_cannot_be(self) -> None:
        with pytest.raises(InputError, match="window must be an integer of at least 1, got 0"):
            CurveRL(window=0)


class TestHybrid:
    def test_a_call_counts_as_a_step(self) -> None:
        hybrid = Hybrid(first=RLOO(), then=MaxRL(), steps=2)
        state: Any = None
        used = []
        for _ in range(4):
            advantages, state = hybrid([[1, 0, 0, 0]], state)
            used.append(advantages[0, 0].item())
        assert used == [1.0, 1.0, 3.0, 3.0]
        assert state == {"step": 4}

    def test_a_caller_may_count_the_steps(self) -> None:
        hybrid = Hybrid(steps=200)
        assert hybrid.given(hybrid.at_step(hybrid.initial_state(), 199)) == GRPO()
        assert hybrid.given(hybrid.at_step({"step": 5000}, 200)) == MaxRL()
        assert CurveRL().at_step({"pass_rates": []}, 7) == {"pass_rates": []}

    def test_defaults_are_the_guides(self) -> None:
        assert Hybrid() == Hybrid(first=GRPO(), then=MaxRL(), steps=200)
        assert Hybrid().choices == (GRPO(), MaxRL())
        assert CurveRL().choices == ()

    def test_needs_what_its_stages_need(self) -> None:
        assert Hybrid(first=MaxRL(order=4), then=PassAtK(k=8)).least_rollouts == 9
        assert Hybrid(first=MMPO(order=6), then=RLOO()).least_rollouts == 6
        assert CurveRL().least_rollouts == 1

    @pytest.mark.usefixtures("as_users_run_it")
    def test_what_it_cannot_be(self) -> None:
        for wrong in (CurveRL(), "grpo", lambda rewards: rewards):
            with pytest.raises(
                InputError, match=r"first must be an estimator without memory.*Custom\(function"
            ):
                Hybrid(first=wrong)  # type: ignore[arg-type]
            with pytest.raises(InputError, match="then must be"):
                Hybrid(then=wrong)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="steps must be an integer of at least 0, got -1"):
            Hybrid(steps=-1)
        assert Hybrid(then=Custom(function=lambda rewards: rewards)).given({"step": 200}).name == "custom"


class TestAdaptiveSwitch:
    def test_switches_after_the_batch_and_back_below_the_hysteresis(self) -> None:
        switch = AdaptiveSwitch(below=RLOO(), above=MaxRL(), at=0.5, hysteresis=0.125)
        quarters = {k: [[1.0] * k + [0.0] * (8 - k)] for k in range(9)}
        state: Any = None
        used = []
        for successes in (7, 4, 3, 2, 4, 5, 4, 3, 2, 3):
            used.append(switch.given(state).name)
            _, state = switch(quarters[successes], state)
        # Up at 5/8 or more, down below 3/8; each decides for the batch after it.
        above = [False, True, True, True, False, False, True, True, True, False]
        assert used == ["maxrl" if it else "rloo" for it in above]

    def test_a_rate_at_the_bound_switches(self) -> None:
        assert 0.2 + 0.1 > 3 / 10
        assert AdaptiveSwitch(at=0.2, hysteresis=0.1)([[1.0] * 3 + [0.0] * 7])[1] == {"above": True}

    def test_the_rate_is_that_of_all_rollouts_there(self) -> None:
        switch = AdaptiveSwitch(at=0.5, hysteresis=0.0)
        _, state = switch([[1, 1, 1, 0], [0, 0, NAN, NAN]])  # 3 of 6
        assert state == {"above": True}
        _, state = switch([[NAN, NAN]], state)  # nothing is known
        assert state == {"above": True}
        _, state = switch([[1, 0, 0]], state)
        assert state == {"above": False}

    def test_success_is_1_or_above_the_threshold(self) -> None:
        graded = [[28.6, 28.0, -4.5, 25.1]]
        below = SuccessWeighted(threshold=20.0)
        assert AdaptiveSwitch(below=below, above=below)(graded)[1] == {"above": False}
        switch = AdaptiveSwitch(below=GRPO(), above=SuccessWeighted(threshold=20.0), threshold=20.0)
        assert switch(graded)[1] == {"above": True}
        assert switch([[20.0, 20.0]])[1] == {"above": False}

    def test_defaults_are_the_guides(self) -> None:
        assert AdaptiveSwitch() == AdaptiveSwitch(below=GRPO(), above=MaxRL(), at=0.5)
        assert AdaptiveSwitch().choices == (GRPO(), MaxRL())

    @pytest.mark.usefixtures("as_users_run_it")
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"at": 1.5}, "at must be a number from 0 to 1, got 1.5"),
            ({"at": "half"}, "at must be a number from 0 to 1, got 'half'"),
            ({"at": True}, "at must be a number from 0 to 1, got True"),
            ({"hysteresis": -0.1}, "hysteresis must be a number from 0 to 1, got -0.1"),
            ({"at": 0.98}, r"at=0.98 ± hysteresis=0.05 leaves the rates from 0 to 1.*lower the hysteresis"),
            ({"at": 0.02}, "at=0.02 ± hysteresis=0.05 leaves"),
            ({"at": 0.1, "hysteresis": 0.1}, "at=0.1 ± hysteresis=0.1 leaves"),
            ({"threshold": NAN}, "threshold must be a number or None, got nan"),
            ({"below": CurveRL()}, "below must be an estimator without memory"),
            ({"above": "maxrl"}, "above must be an estimator without memory"),
            ({"threshold": "20"}, "threshold must be a number or None, got '20'"),
        ],
    )
    def test_what_it_cannot_be(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises(InputError, match=match):
            AdaptiveSwitch(**options)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("estimator", [Hybrid(), AdaptiveSwitch(), CurveRL()], ids=lambda e: e.name)
@pytest.mark.parametrize("wrong", [3, "grpo", [1]])
def test_a_state_that_is_no_mapping_is_refused(estimator: Any, wrong: Any) -> None:
    with pytest.raises(InputError, match=f"{re.escape(repr(wrong))} is no state of estimator"):
        estimator.given(wrong)


@pytest.mark.parametrize("estimator", [Hybrid(), AdaptiveSwitch(), CurveRL()], ids=lambda e: e.name)
def test_a_state_advances_without_advantages(estimator: Any) -> None:
    """As in a call, with masks and ids, and from the beginning."""
    _, state = estimator([[1, 1, 1, 0]])
    assert estimator.advance(None, [[1, 1, 1, 0]]) == state
    rewards, ids, mask = [1.0, 0.0, 0.0, 0.0, 1.0], ["a", "b", "a", "b", "b"], [True] * 4 + [False]
    expected = estimator([[1, 0, NAN], [0, 0, NAN]], state)[1]
    assert estimator.advance(state, rewards, mask, group_ids=ids) == expected != state
    with pytest.raises(InputError, match="is no state of estimator"):
        estimator.advance({"other": 1}, [[1, 0]])

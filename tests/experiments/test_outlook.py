"""Verdicts where they are clear, and advice that does what it says."""

import re

import pytest

from maxrl.evaluation import ProblemCounts
from maxrl.evaluation.groups import expect_groups, hard_prompts, mean_pass_rate
from maxrl.experiments.outlook import WORKABLE_LIVE, Judgement, judge


def verdict(rollouts: int, *kinds: tuple[int, int], n: int = 128, tiny: bool = False) -> Judgement:
    """On so many prompts of so many successes in n samples each: (prompts, successes)."""
    problems = [
        ProblemCounts(id="", scored=n, correct=correct) for prompts, correct in kinds for _ in range(prompts)
    ]
    groups, hard = expect_groups(problems, rollouts), hard_prompts(problems)
    return judge(problems, groups, hard, mean_pass_rate(problems)[0], tiny)


def test_a_spread_within_reach_is_workable() -> None:
    found = verdict(32, (20, 10), (20, 40), (10, 80))
    assert (found.outlook, found.why, found.advice) == ("likely", "workable", ())
    # 10/128 = 7.8 % and 40/128: the median of 20 and 20 lies between, .195; 1 − .805^4 − .195^4 = .579
    assert "succeeds in 19.5% of its samples; half of its groups are live from N = 4 on" in found.reasons[1]


def test_where_nearly_everything_is_dead_training_is_too_hard() -> None:
    found = verdict(16, (80, 0), (20, 30))
    assert (found.outlook, found.why) == ("unlikely", "too hard")
    # 30 of 128: (98/128)^16 ≈ .014 of those groups is dead, too
    assert found.reasons[0] == "of the groups of 16, 80% are dead, 20% live and 0% mastered"
    assert (
        "no N up to 128 makes 50% of the groups live: of the prompts, 80% never and 0% always"
        in found.advice[0]
    )
    assert "supervised training on solutions first" in found.advice[1]
    assert "--warm_start_pass_rate" in verdict(16, (80, 0), (20, 30), tiny=True).advice[1]


def test_where_nearly_everything_is_mastered_training_is_too_easy() -> None:
    found = verdict(16, (80, 128), (20, 60))
    assert (found.outlook, found.why) == ("unlikely", "too easy")
    assert found.advice[0].startswith("harder problems")


def test_where_both_ends_are_full_both_are_named() -> None:
    found = verdict(16, (45, 0), (40, 128), (15, 60))
    assert (found.outlook, found.why) == ("unlikely", "too hard and too easy")
    assert any("--refill_dead_groups" in advice for advice in found.advice)


def test_little_is_left_of_what_is_nearly_solved() -> None:
    found = verdict(64, (100, 120))  # live: 1 − (120/128)^64 or so, nearly all
    assert found.reasons[0] == "of the groups of 64, 0% are dead, 100% live and 0% mastered"
    assert (found.outlook, found.why) == ("unlikely", "too easy")
    assert "pass@1 is 0.938: little is left to gain" in found.reasons


def test_the_larger_n_it_advises_makes_half_of_the_groups_live() -> None:
    found = verdict(16, (49, 1), (51, 7))  # the median hard prompt is live from N = 13 on
    assert (found.outlook, found.why) == ("doubtful", "too hard")
    match = re.search(r"--num_generations (\d+) on", found.advice[0])
    assert match is not None
    n = int(match[1])
    problems = [ProblemCounts(id="", scored=128, correct=c) for c in [1] * 49 + [7] * 51]
    assert expect_groups(problems, n).live >= WORKABLE_LIVE > expect_groups(problems, n - 1).live
    found = verdict(16, (100, 4))
    # From the rate 1/32: the least with 1 − (31/32)^N ≥ ½ is 22; without replacement it comes sooner.
    assert "half of its groups are live from N = 22 on" in found.reasons[1]
    assert any("--num_generations 22 reaches the median hard prompt" in advice for advice in found.advice)


def test_hard_prompts_out_of_reach_are_a_doubt_where_the_easy_ones_are_live() -> None:
    found = verdict(32, (40, 0), (60, 70))
    assert (found.outlook, found.why) == ("doubtful", "hard prompts perhaps out of reach")
    # 1 − .05^(1/128) = .0231, and (1 − .0231)^30 = .496
    assert found.reasons[1].endswith(
        "never succeeded in 128 samples; its pass rate may still be anything up to 2.3% (95 % confidence), so that these "
        "samples do not tell whether groups of 32 reach it"
    )
    assert found.advice[0].startswith("more --eval_samples")
    found = verdict(29, (40, 0), (60, 70))
    assert (found.outlook, found.why) == ("doubtful", "hard prompts out of reach")
    assert found.reasons[1].endswith("half of its groups are live from N = 30 on at the earliest")
    assert "--eval_samples" not in " ".join(found.advice)
    found = verdict(32, (40, 1), (60, 70))
    assert (found.outlook, found.why) == ("doubtful", "hard prompts out of reach")
    # 1/128: the least N with (127/128)^N ≤ ½ is 89
    assert "--num_generations 89 reaches" in found.advice[0]


def test_small_groups_are_a_doubt_and_those_up_to_16_a_caution() -> None:
    found = verdict(4, (100, 64))
    assert (found.outlook, found.why) == ("doubtful", "small groups")
    assert found.advice == ("a larger N: --num_generations 16 or more",)
    assert found.reasons[-1] == (
        "N = 4 is small: gains are reported for N well above 2, where the published MaxRL is plain RL"
    )
    found = verdict(16, (100, 64))
    assert (found.outlook, found.advice) == ("likely", ())
    assert "others report that N = 16 brought nothing with short budgets" in found.reasons[-1]
    assert not any("others report" in reason for reason in verdict(17, (100, 64)).reasons)


@pytest.mark.parametrize(("prompts", "said"), [(10, True), (1000, False)])
def test_a_share_that_cannot_be_told_from_the_threshold_says_so(prompts: int, said: bool) -> None:
    # Six of ten prompts are always live, the others never: .6 ± .16, and with a thousand ± .015, against ½.
    live = round(0.6 * prompts)
    found = verdict(32, (live, 64), (prompts - live, 0))
    assert ("more --eval_problems would" in found.reasons[0]) is said


def test_prompts_without_a_verdict_are_in_no_share() -> None:
    problems = [
        ProblemCounts(id="", scored=n, correct=c) for n, c in ((32, 0), (32, 0), (32, 32), (32, 9), (0, 0))
    ]
    groups = expect_groups(problems, 16)
    found = judge(problems, groups, hard_prompts(problems), mean_pass_rate(problems)[0], tiny=False)
    assert any("50% never and 25% always succeeded" in advice for advice in found.advice)


def test_a_larger_n_is_advised_once_the_largest() -> None:
    # Rate .055: half of these groups are live from N = 13 on; without replacement a little sooner.
    found = verdict(4, (100, 7))
    (larger,) = [advice for advice in found.advice if "a larger N" in advice]
    assert larger == "a larger N: --num_generations 16 or more"
    found = verdict(4, (100, 4))  # rate 1/32: 22
    (larger,) = [advice for advice in found.advice if "a larger N" in advice]
    assert larger == "a larger N: --num_generations 22 reaches the median hard prompt"


@pytest.mark.parametrize("rollouts", [4, 16])
def test_no_larger_n_is_advised_where_none_would_do(rollouts: int) -> None:
    found = verdict(rollouts, (50, 0), (50, 128))
    assert found.outlook == "unlikely"
    assert found.advice[0].startswith("no N up to 128 makes 50% of the groups live")
    assert "larger N" not in " ".join([*found.reasons, *found.advice])


def test_a_larger_n_is_sought_among_the_prompts_that_the_shares_are_of() -> None:
    problems = [
        ProblemCounts(id="", scored=n, correct=c) for n, c in [(64, 30)] * 5 + [(10, 0)] * 20 + [(3, 0)] * 9
    ]
    found = judge(problems, expect_groups(problems, 4), hard_prompts(problems), 0.1, tiny=False)
    assert found.advice[0].startswith("no N up to 10 makes 50% of the groups live: of the prompts, 80% never")

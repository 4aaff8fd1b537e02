"""Whether training is likely to help, from measured pass rates: a verdict with its reasons, and what to change."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from maxrl.evaluation.groups import ExpectedGroups, HardPrompts, least_rollouts_for
from maxrl.evaluation.records import ProblemCounts

FEWEST_LIVE = 0.35
"""Share of live groups below which training is unlikely to help. SmolLM2-360M on GSM8K, with 65 to 75 % of the groups of 16
dead, gained nothing in 50 steps; a mastered group carries as little signal as a dead one."""

WORKABLE_LIVE = 0.5
"""Share of live groups from which on it is likely to: at most every second rollout is spent on a group without signal. It is
ours, on the safe side of the reports above; nobody has measured where between .35 and 1 training begins to pay."""

FEWEST_ROLLOUTS = 8
"""Least N that is no reason for doubt. At N = 2 the published MaxRL is plain RL; gains are reported for N well above 2. The
bound itself is ours."""

SHORT_OF_ROLLOUTS = 16
"""N up to which a caution is in place: with N = 8 to 16 and short budgets, models of 1.7B to 4B gained nothing or lost."""

NEARLY_SOLVED = 0.9
"""pass@1 above which little is left: less than a tenth of the rollouts still fail."""

Outlook = Literal["likely", "doubtful", "unlikely"]
_ORDER: tuple[Outlook, ...] = ("likely", "doubtful", "unlikely")


@dataclass(frozen=True, kw_only=True)
class LargerN:
    """Advice to raise N; of several the judgement gives the one that asks for most."""

    rollouts: float
    """The N it asks for; infinite where no N would do."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that speaks for or against training, and what would change it."""

    outlook: Outlook
    why: str
    """In two or three words."""
    reason: str
    advice: tuple[str | LargerN, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict: the worst of its findings."""

    outlook: Outlook
    why: str
    reasons: tuple[str, ...]
    advice: tuple[str, ...]


def judge(
    problems: Sequence[ProblemCounts], groups: ExpectedGroups, hard: HardPrompts, pass_at_1: float, tiny: bool
) -> Judgement:
    """Whether training with groups of `groups.rollouts` is likely to help.

    Args:
        problems: verdict counts, from which a better N is sought.
        groups: expected at the N in question.
        hard: of the same prompts.
        pass_at_1: of the same prompts.
        tiny: whether the model is made and warmed up on the spot.
    """
    warmer = (
        "a warm start that goes further (--warm_start_pass_rate)"
        if tiny
        else "a warm start: supervised training on solutions first"
    )
    found = [
        finding
        for finding in (
            _about_live(problems, groups, warmer),
            _about_rest(pass_at_1),
            _about_hard(groups.rollouts, hard, warmer),
            _about_rollouts(groups.rollouts),
        )
        if finding
    ]
    worst = max(found, key=lambda finding: _ORDER.index(finding.outlook))
    reasons = [finding.reason for finding in found]
    if worst.outlook == "likely" and groups.rollouts <= SHORT_OF_ROLLOUTS:
        reasons.append(
            f"others report that N = {groups.rollouts} brought nothing with short budgets: plan many steps or a larger N"
        )
    return Judgement(outlook=worst.outlook, why=worst.why, reasons=tuple(reasons), advice=_advice_of(found))


def _advice_of(found: Sequence[Finding]) -> tuple[str, ...]:
    """What would change the doubts; a larger N is advised once, the largest."""
    given = [item for finding in found if finding.outlook != "likely" for item in finding.advice]
    larger = [item for item in given if isinstance(item, LargerN)]
    largest = max(larger, key=lambda item: item.rollouts, default=None)
    return tuple(
        dict.fromkeys(largest.text if largest and isinstance(item, LargerN) else item for item in given)
    )


def _about_live(problems: Sequence[ProblemCounts], groups: ExpectedGroups, warmer: str) -> Finding:
    """Whether enough groups carry signal; if not, because they are dead, mastered, or both."""
    reason = (
        f"of the groups of {groups.rollouts}, {groups.dead:.0%} are dead, {groups.live:.0%} live and "
        f"{groups.mastered:.0%} mastered"
    )
    bound = FEWEST_LIVE if groups.live < FEWEST_LIVE else WORKABLE_LIVE
    if groups.live_error is not None and abs(groups.live - bound) < 2 * groups.live_error:
        reason += (
            f"; live is known to ± {groups.live_error:.0%} (standard error), too little to tell it from the {bound:.0%} "
            "that decide here: more --eval_problems would"
        )
    if groups.live >= WORKABLE_LIVE:
        return Finding(outlook="likely", why="workable", reason=reason)
    outlook: Outlook = "unlikely" if groups.live < FEWEST_LIVE else "doubtful"
    # Those that the shares are of: another N would else be asked about other prompts.
    wanted = _larger_rollouts([problem for problem in problems if problem.scored >= groups.rollouts])
    easier = f"easier problems (--sweep measures the task's fields), or {warmer}"
    harder = "harder problems (--sweep measures the task's fields)"
    if groups.mastered >= 2 * groups.dead:
        return Finding(outlook=outlook, why="too easy", reason=reason, advice=(harder, wanted))
    if groups.dead >= 2 * groups.mastered:
        return Finding(outlook=outlook, why="too hard", reason=reason, advice=(wanted, easier))
    between = (
        "problems of a difficulty between the two kinds; --refill_dead_groups draws others in place of both"
    )
    return Finding(outlook=outlook, why="too hard and too easy", reason=reason, advice=(wanted, between))


def _larger_rollouts(problems: Sequence[ProblemCounts]) -> LargerN:
    most = min(problem.scored for problem in problems)
    least = least_rollouts_for(problems, WORKABLE_LIVE)
    if least is not None:
        return LargerN(
            rollouts=least,
            text=f"a larger N: from --num_generations {least} on, {WORKABLE_LIVE:.0%} of the groups are live",
        )
    never = sum(problem.correct == 0 for problem in problems) / len(problems)
    always = sum(problem.correct == problem.scored for problem in problems) / len(problems)
    return LargerN(
        rollouts=math.inf,
        text=f"no N up to {most} makes {WORKABLE_LIVE:.0%} of the groups live: of the prompts, {never:.0%} never and "
        f"{always:.0%} always succeeded in their samples; more --eval_samples would show whether an N above {most} does",
    )


def _about_rest(pass_at_1: float) -> Finding | None:
    if pass_at_1 <= NEARLY_SOLVED:
        return None
    return Finding(
        outlook="unlikely",
        why="too easy",
        reason=f"pass@1 is {pass_at_1:.3f}: little is left to gain",
        advice=("harder problems (--sweep measures the task's fields)",),
    )


def _about_hard(rollouts: int, hard: HardPrompts, warmer: str) -> Finding | None:
    """Whether the prompts from which something is to be learned are within reach of N."""
    if hard.median is None:
        return None
    easier = f"easier problems (--sweep measures the task's fields), or {warmer}"
    if hard.rollouts_to_live is None:
        assert hard.at_most is not None, "comes with a median of 0"
        assert hard.at_least is not None, "comes with a median of 0"
        never = (
            f"the median hard prompt never succeeded in {hard.never_in} samples; its pass rate may still be anything up to "
            f"{hard.at_most:.1%} (95 % confidence)"
        )
        if hard.at_least > rollouts:
            return Finding(
                outlook="doubtful",
                why="hard prompts out of reach",
                reason=f"{never}: half of its groups are live from N = {hard.at_least} on at the earliest",
                advice=(easier,),
            )
        return Finding(
            outlook="doubtful",
            why="hard prompts perhaps out of reach",
            reason=f"{never}, so that these samples do not tell whether groups of {rollouts} reach it",
            advice=("more --eval_samples, which tell how hard the hard prompts are", easier),
        )
    where = (
        f"the median hard prompt succeeds in {hard.median:.1%} of its samples; half of its groups are live from "
        f"N = {hard.rollouts_to_live} on"
    )
    if hard.rollouts_to_live <= rollouts:
        return Finding(outlook="likely", why="workable", reason=where)
    return Finding(
        outlook="doubtful",
        why="hard prompts out of reach",
        reason=where,
        advice=(
            LargerN(
                rollouts=hard.rollouts_to_live,
                text=f"a larger N: --num_generations {hard.rollouts_to_live} reaches the median hard prompt",
            ),
        ),
    )


def _about_rollouts(rollouts: int) -> Finding | None:
    if rollouts >= FEWEST_ROLLOUTS:
        return None
    enough = 2 * FEWEST_ROLLOUTS
    return Finding(
        outlook="doubtful",
        why="small groups",
        reason=f"N = {rollouts} is small: gains are reported for N well above 2, where the published MaxRL is plain RL",
        advice=(LargerN(rollouts=enough, text=f"a larger N: --num_generations {enough} or more"),),
    )

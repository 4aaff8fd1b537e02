"""Every error that maxrl raises on purpose.

Messages say what was given, what is allowed and what to do. The command line turns an `InputError`
into one line and exit status 2; everything else is a failure, exit status 1.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class MaxRLError(Exception):
    """Base of all errors that maxrl raises on purpose."""


class InputError(MaxRLError, ValueError):
    """The user's input (a field, a file, a name, a shape) cannot be used; the message says what can."""


class RewardError(InputError):
    """Rewards that the chosen estimator is not defined on; the message names the remedies."""


class VerifierError(MaxRLError):
    """The verifiers of a run reached no verdict at all for so long that going on would only waste time."""


class NoSignalError(MaxRLError):
    """A run found no group with any signal in all that it drew; the message says how much that was, and what to do."""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> InputError:
    """An `InputError` for `given`, which is no `kind`, with the nearest of the `known` names.

    >>> print(unknown_name("estimator", "maxlr", ["maxrl", "grpo"]))
    unknown estimator 'maxlr'; did you mean 'maxrl'? (known: grpo, maxrl)
    """
    names = sorted(known)
    near = get_close_matches(given, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return InputError(f"unknown {kind} '{given}'{hint} (known: {', '.join(names)})")

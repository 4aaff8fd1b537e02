"""What plug-ins share: one reward per rollout, wherever an engine keeps it, → an advantage for each of its tokens.

Suffixes: `B` rollouts (rows) in any order, `T` tokens of the response.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives import ALIASES, ESTIMATORS, AnyEstimator, Estimator, EstimatorWithMemory, as_estimator
from maxrl.objectives.registry import merged, written_options


class OutcomeAdvantage:
    """An estimator as engines want it: rows of tokens in any order, groups by the prompts' ids.

    Built from a name as everywhere in maxrl (`maxrl`, `maxrl(order=16)`, `module:function`) and parameters, which are the
    estimator's options, and

    - `correctness_threshold`: rewards of at least so much are a success (1), others none (0);
    - `state_file`: where an estimator with memory keeps its state, an absolute path on the machine that computes
      advantages, since engines save none of it. The state is that of the last batch, whatever checkpoint a run goes on
      from: steps that are made twice are remembered twice.

    Both may stand in the name, too, where an engine takes nothing else: `maxrl(correctness_threshold=0.5)`.

    Raises:
        InputError: there is no such estimator or option, or a value that cannot be used.
    """

    def __init__(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        plain, opening, _ = name.partition("(")
        written = written_options(name, name[len(plain) :]) if opening else {}
        options = merged(name, written, dict(parameters or {}))
        self.threshold = checked_threshold(options.pop("correctness_threshold", None))
        state_file = options.pop("state_file", None)
        self.estimator: AnyEstimator = as_estimator(plain.strip(), **options)
        self.state_file = None if state_file is None else Path(state_file)
        remembers = isinstance(self.estimator, EstimatorWithMemory)
        if remembers and self.state_file is None:
            raise InputError(
                f"{self.estimator.name} remembers earlier batches, and this engine saves nothing of it: give state_file, an "
                "absolute path where its state is kept (remove the file to begin anew)"
            )
        if self.state_file is not None and not remembers:
            raise InputError(
                f"state_file is for estimators with memory, and {self.estimator.name} has none: leave it out"
            )
        if self.state_file is not None and not self.state_file.is_absolute():
            raise InputError(
                f"state_file={state_file} is looked up in the working folder of whichever process computes advantages; "
                "give an absolute path"
            )

    def __call__(self, token_rewards_BT: Tensor, mask_BT: Tensor, index: Sequence[Any] | Any) -> Tensor:
        """The advantages of tokens, (B, T), 0 outside the mask.

        Args:
            token_rewards_BT: rewards of tokens; a rollout's reward is their sum.
            mask_BT: 1 where a token is one of the response.
            index: id of each rollout's prompt: groups are formed by it, and may differ in size.

        Raises:
            InputError: no ids, or not one per row; rewards and mask of different shapes; a state that cannot be read.
            RewardError: rewards that the estimator is not defined on.
        """
        if index is None:
            raise InputError("there are no ids of prompts (uid): which rollouts belong together is not known")
        if token_rewards_BT.shape != mask_BT.shape:
            raise InputError(
                f"rewards of tokens are {tuple(token_rewards_BT.shape)} and their mask is {tuple(mask_BT.shape)}: both must "
                "be (rollouts, tokens)"
            )
        with torch.no_grad():
            rewards_B = successes(token_rewards_BT.sum(dim=-1), self.threshold)
            advantages_B = self._advantages(rewards_B, index)
            return advantages_B[:, None] * mask_BT.to(advantages_B.dtype)

    def _advantages(self, rewards_B: Tensor, index: Any) -> Tensor:
        if isinstance(self.estimator, Estimator):
            return self.estimator(rewards_B, group_ids=index)
        assert self.state_file is not None
        state = _read_state(self.state_file) if self.state_file.is_file() else None
        advantages_B, state = self.estimator(rewards_B, state, group_ids=index)
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.state_file.with_name(f"{self.state_file.name}.partial")
        partial.write_text(json.dumps(state))
        partial.replace(self.state_file)
        return advantages_B


def _read_state(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"state_file {path} holds no state ({error}); remove it to begin anew") from error


def checked_threshold(threshold: Any) -> float | None:
    """A number, or None for none; engines hand options over as text, too.

    Raises:
        InputError: it is no number.
    """
    if threshold is None:
        return None
    try:
        number = math.nan if isinstance(threshold, bool) else float(threshold)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise InputError(
            f"correctness_threshold={threshold!r} is no number; give the least reward of a success"
        )
    return number


def successes(rewards: Tensor, threshold: float | None) -> Tensor:
    """Rewards as 1 (at least the threshold) and 0; as they are without one. What is missing (NaN) stays missing."""
    if threshold is None:
        return rewards
    return torch.where(rewards.isnan(), rewards, (rewards >= threshold).to(rewards.dtype))


def parameters_of(config: Any, section: str = "maxrl") -> dict[str, Any]:
    """A section of an engine's configuration (a mapping, one of OmegaConf's, or a dataclass); empty where there is none.

    Raises:
        InputError: the section is there, but no mapping; or one of an estimator's name is, which nobody reads.
    """
    if config is None:
        return {}
    get = getattr(config, "get", None)

    def entry(name: str) -> Any:
        return get(name) if callable(get) else getattr(config, name, None)

    for name in {*ESTIMATORS, *ALIASES} - {section}:
        if callable(getattr(entry(name), "items", None)):
            raise InputError(
                f"options of every estimator stand under {section}, and not under {name}: rename it"
            )
    found = entry(section)
    if found is None:
        return {}
    items = getattr(found, "items", None)
    if not callable(items):
        raise InputError(f"{section} must be a mapping of parameters to values, but is {found!r}")
    return {str(name): value for name, value in dict(items()).items()}

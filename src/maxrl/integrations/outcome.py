"""What plug-ins share: one reward per rollout, wherever an engine keeps it, → an advantage for each of its tokens.

Suffixes: `B` rollouts (rows) in any order, `T` tokens of the response.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives import AnyEstimator, Estimator, EstimatorWithMemory, as_estimator


class OutcomeAdvantage:
    """An estimator as engines want it: rows of tokens in any order, groups by the prompts' ids.

    Built from a name as everywhere in maxrl (`maxrl`, `maxrl(order=16)`, `module:function`) and parameters, which are the
    estimator's options, and

    - `correctness_threshold`: rewards of at least so much are a success (1), others none (0);
    - `state_file`: where an estimator with memory keeps its state, since engines save none of it. Without one it is
      refused: a resumed run would begin anew without anybody knowing.

    Raises:
        InputError: there is no such estimator or option.
    """

    def __init__(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        options = dict(parameters or {})
        threshold = options.pop("correctness_threshold", None)
        state_file = options.pop("state_file", None)
        self.threshold = None if threshold is None else float(threshold)
        self.estimator: AnyEstimator = as_estimator(name, **options)
        self.state_file = None if state_file is None else Path(state_file)
        if isinstance(self.estimator, EstimatorWithMemory) and self.state_file is None:
            raise InputError(
                f"{self.estimator.name} remembers earlier batches, and this engine saves nothing of it: give state_file, a "
                "path where its state is kept (remove the file to begin anew)"
            )

    def __call__(self, token_rewards_BT: Tensor, mask_BT: Tensor, index: Sequence[Any] | Any) -> Tensor:
        """The advantages of tokens, (B, T), 0 outside the mask.

        Args:
            token_rewards_BT: rewards of tokens; a rollout's reward is their sum.
            mask_BT: 1 where a token is one of the response.
            index: id of each rollout's prompt: groups are formed by it, and may differ in size.

        Raises:
            InputError: no ids, or not one per row.
            RewardError: rewards that the estimator is not defined on.
        """
        if index is None:
            raise InputError("there are no ids of prompts (uid): which rollouts belong together is not known")
        with torch.no_grad():
            rewards_B = token_rewards_BT.sum(dim=-1)
            if self.threshold is not None:
                rewards_B = (rewards_B >= self.threshold).to(rewards_B.dtype)
            advantages_B = self._advantages(rewards_B, index)
            return advantages_B[:, None] * mask_BT.to(advantages_B.dtype)

    def _advantages(self, rewards_B: Tensor, index: Any) -> Tensor:
        if isinstance(self.estimator, Estimator):
            return self.estimator(rewards_B, group_ids=index)
        assert self.state_file is not None
        state = json.loads(self.state_file.read_text()) if self.state_file.is_file() else None
        advantages_B, state = self.estimator(rewards_B, state, group_ids=index)
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.state_file.with_name(f"{self.state_file.name}.partial")
        partial.write_text(json.dumps(state))
        partial.replace(self.state_file)
        return advantages_B


def parameters_of(config: Any, section: str = "maxrl") -> dict[str, Any]:
    """A section of an engine's configuration (a mapping, one of OmegaConf's, or a dataclass); empty where there is none.

    Raises:
        InputError: the section is there, but no mapping.
    """
    if config is None:
        return {}
    get = getattr(config, "get", None)
    found = get(section) if callable(get) else getattr(config, section, None)
    if found is None:
        return {}
    items = getattr(found, "items", None)
    if not callable(items):
        raise InputError(f"{section} must be a mapping of parameters to values, but is {found!r}")
    return {str(name): value for name, value in dict(items()).items()}

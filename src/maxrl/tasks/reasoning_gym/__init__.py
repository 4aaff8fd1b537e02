"""The task `reasoning_gym`: the generators of the package of that name, behind one adapter."""

from maxrl.tasks.reasoning_gym.task import ReasoningGym

__all__ = ["ReasoningGym"]

"""The tasks `gsm8k` and `math`: questions from data sets, answers compared by value.

`task` is the tasks and the reward functions for TRL; `sources` knows the data sets; the rest decides when two answers are
the same, beginning at `answers`.
"""

from maxrl.tasks.math.task import GSM8K, Math, make_math_reward, math_reward

__all__ = ["GSM8K", "Math", "make_math_reward", "math_reward"]

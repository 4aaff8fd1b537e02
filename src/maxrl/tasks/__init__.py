"""Tasks: problems whose answers can be checked, each with a verifier that proves itself.

Nothing here imports torch or transformers. `TASKS` names every task of this package; `get_task` makes one from its name
and parameters, a user's own included. The contract that a task keeps is `Task` in `maxrl.tasks.base`; `judge` asks a
task for verdicts without ever failing.
"""

from maxrl.tasks.base import Example, Message, Prompt, SelfCheck, Task, Verdict, Vocabulary
from maxrl.tasks.code import Code
from maxrl.tasks.guard import judge
from maxrl.tasks.math import GSM8K, Math, math_reward
from maxrl.tasks.maze import Maze
from maxrl.tasks.mixture import Mixture, Part
from maxrl.tasks.reasoning_gym import ReasoningGym
from maxrl.tasks.registry import TASKS, get_task, task_class
from maxrl.tasks.reverse_text import ReverseText
from maxrl.tasks.streams import Split
from maxrl.tasks.subset_sum import SubsetSum

__all__ = [
    "GSM8K",
    "TASKS",
    "Code",
    "Example",
    "Math",
    "Maze",
    "Message",
    "Mixture",
    "Part",
    "Prompt",
    "ReasoningGym",
    "ReverseText",
    "SelfCheck",
    "Split",
    "SubsetSum",
    "Task",
    "Verdict",
    "Vocabulary",
    "get_task",
    "judge",
    "math_reward",
    "task_class",
]

"""Training on top of TRL: `MaxRLConfig`, `MaxRLTrainer`, warm starts on demonstrations."""

from maxrl.training.config import MaxRLConfig
from maxrl.training.rewards import TaskReward, task_dataset
from maxrl.training.trainer import MaxRLTrainer
from maxrl.training.warm_starts import WarmStart, warm_start

__all__ = ["MaxRLConfig", "MaxRLTrainer", "TaskReward", "WarmStart", "task_dataset", "warm_start"]

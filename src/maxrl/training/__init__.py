"""Training on top of TRL: `MaxRLConfig`, `MaxRLTrainer`, warm starts on demonstrations."""

from maxrl.training.config import MaxRLConfig
from maxrl.training.rewards import TaskReward, task_dataset
from maxrl.training.trainer import MaxRLTrainer

__all__ = ["MaxRLConfig", "MaxRLTrainer", "TaskReward", "task_dataset"]

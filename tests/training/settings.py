"""Settings that every training run of these tests has in common."""

from pathlib import Path
from typing import Any


def settings(folder: Path, **fields: Any) -> dict[str, Any]:
    """Of a `MaxRLConfig`: two prompts of four rollouts a step, three steps at a constant rate; nothing saved or shown."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 5,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "bf16": False,
        "activation_checkpointing": False,
        "dataloader_pin_memory": False,
        **fields,
    }

"""The smallest recipe that runs end to end, for tests that go through the command line."""

from pathlib import Path

RECIPE = """\
task: subset_sum
num_elements: 3
max_value: 4
model_name_or_path: tiny
tiny_layers: 1
tiny_width: 16
tiny_heads: 2
tiny_kv_heads: 1
tiny_feed_forward: 32
warm_start_pass_rate: 0.05
warm_start_max_steps: 200
warm_start_batch_size: 16
num_generations: 4
per_device_train_batch_size: 16
max_completion_length: 5
max_steps: 6
learning_rate: 1e-2
lr_scheduler_type: constant
activation_checkpointing: false
bf16: false
logging_steps: 1
save_steps: 2
report_to: none
eval_problems: 6
eval_samples: 4
"""


def write_recipe(folder: Path, **fields: object) -> Path:
    """The recipe on disk, with fields changed or added."""
    lines = [line for line in RECIPE.splitlines() if line.split(":")[0] not in fields]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    path = folder / "recipe.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path

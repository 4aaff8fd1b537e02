"""The smallest step, and a measurement of one, made up."""

from typing import Any

from rich.console import Console
from step_parts.rows import Job, Row, Shape

MINIATURE = Row(
    "miniature",
    Shape(layers=1, width=8, heads=2, kv_heads=1, feed_forward=16, vocabulary=12, positions=32),
    prompts=2,
    num_generations=8,
    prompt_tokens=5,
    new_tokens=3,
    micro_batch=8,
    steps=1,
)
JOB = Job(MINIATURE, "ours", "fp32", peak_size=16)


def result(seconds: float, memory: float = 100.0) -> dict[str, Any]:
    """A measurement of one step, made up."""
    parts = {"rollout": 0.5, "logprobs": 0.125, "backward": 0.25, "rest": 0.125}
    step_ = {name: part * seconds for name, part in parts.items()}
    return {
        "steps": [{**step_, "step": seconds, "new_tokens": 48}],
        "peaks": {"fp32": [10.0], "bf16": [20.0]},
        "peak_memory_mb": memory,
        "base_memory_mb": 50.0,
        "other_cores": None,
        "remarks": [],
        "environment": {},
    }


def silent() -> Console:
    return Console(quiet=True)

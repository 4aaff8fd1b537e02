"""What is measured: the shapes, the batches, and the work that they cannot do without."""

from dataclasses import asdict, dataclass
from typing import Any

PRECISIONS = ("fp32", "bf16")
SIDES = ("ours", "trl")


@dataclass(frozen=True)
class Shape:
    """A Qwen2 with tied embeddings."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    positions: int = 512
    rope_theta: float = 10_000.0


@dataclass(frozen=True)
class Row:
    """One step: a model and a batch of groups whose lengths are all equal."""

    name: str
    shape: Shape
    prompts: int
    num_generations: int
    prompt_tokens: int
    """With <bos>."""
    new_tokens: int
    micro_batch: int
    """Rows that TRL's update forwards at once: with which it is fast, or `--micro_batch`; the rest by gradient accumulation.
    It sets TRL's memory; ours is bounded by a token budget instead."""
    steps: int
    """Steps measured in one process."""

    @property
    def rollouts(self) -> int:
        return self.prompts * self.num_generations

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Row":
        return cls(**{**fields, "shape": Shape(**fields["shape"])})


@dataclass(frozen=True)
class Job:
    """One measurement, made in a process of its own so that its peak memory is its own."""

    row: Row
    side: str
    precision: str
    device: str = "cpu"
    threads: int = 1
    dead: bool = False
    """Every other group fails throughout, and so carries no signal."""
    small_warm_up: bool = False
    """Warm up with two groups of eight rollouts instead of a whole step."""
    peak_size: int = 2048
    """Side of the square matrices whose product gives the matmul peak."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Job":
        return cls(**{**fields, "row": Row.from_json(fields["row"])})


SUBSET_SUM = Shape(layers=3, width=128, heads=4, kv_heads=2, feed_forward=512, vocabulary=66)
DEMO = Shape(layers=3, width=64, heads=4, kv_heads=2, feed_forward=256, vocabulary=66)
MAZE9 = Shape(layers=4, width=128, heads=4, kv_heads=2, feed_forward=512, vocabulary=32)
MAZE17 = Shape(layers=4, width=256, heads=4, kv_heads=2, feed_forward=1024, vocabulary=32)
QWEN05 = Shape(
    layers=24,
    width=896,
    heads=14,
    kv_heads=2,
    feed_forward=4864,
    vocabulary=151_936,
    positions=32_768,
    rope_theta=1e6,
)

ROWS = {
    row.name: row
    for row in (
        # "<bos> 15 4 2 18 9 20 = 15 :", with the 3 × 128 model on which the benchmark's subset-sum was first run …
        Row("subset_sum", SUBSET_SUM, 16, 32, prompt_tokens=10, new_tokens=8, micro_batch=512, steps=5),
        # … and with the demo's 3 × 64, where what is left is mostly the cost of launching operations.
        Row("subset_sum_demo", DEMO, 16, 32, prompt_tokens=10, new_tokens=8, micro_batch=512, steps=5),
        Row("maze9", MAZE9, 16, 64, prompt_tokens=94, new_tokens=24, micro_batch=256, steps=3),
        Row("maze17", MAZE17, 4, 128, prompt_tokens=310, new_tokens=48, micro_batch=32, steps=1),
        Row("qwen05", QWEN05, 2, 16, prompt_tokens=128, new_tokens=16, micro_batch=8, steps=1),
    )
}

SWEEP = (8, 16, 32, 64, 128, 256)
"""Rollouts per prompt that `--sweep` goes through."""


def forward_flops(row: Row, groups: float | None = None) -> float:
    """Floating-point operations of one forward pass over what has to be read, nothing twice.

    With P prompt tokens, T new tokens and n rollouts in each of g groups, L layers of width d, a attention width
    (heads × size of a head), k key/value width, f feed-forward width and V words:

    - fed in: each distinct prompt token once, and each new token but the last of a rollout, which nobody needs a
      prediction from: P + n(T − 1) per group. The embedding is a look-up and free;
    - 2 operations per parameter of a matrix: (d·a + 2·d·k + a·d + 3·d·f) in each layer;
    - attention, scores and values: 4·a per layer and visible key; the token at position i sees i + 1;
    - the head, 2·d·V where a new token is predicted: 1 + n(T − 1) positions per group, since all rollouts of a
      prompt share the prediction of their first token.

    A rollout phase needs this once. An update needs it three times (forward once, backward twice), of live groups.
    Norms, softmax, biases, sampling and the optimizer are left out.
    """
    shape, n = row.shape, row.num_generations
    attention = shape.width  # heads × (width / heads)
    keys_values = shape.kv_heads * shape.width // shape.heads
    matrices = 2 * shape.width * (attention + keys_values) + 3 * shape.width * shape.feed_forward
    prompt, fed = row.prompt_tokens, row.new_tokens - 1
    tokens = prompt + n * fed
    predictions = 1 + n * fed
    visible = prompt * (prompt + 1) // 2 + n * (fed * prompt + fed * (fed + 1) // 2)
    group = (
        2 * tokens * shape.layers * matrices
        + 4 * attention * shape.layers * visible
        + 2 * predictions * shape.width * shape.vocabulary
    )
    return group * (row.prompts if groups is None else groups)


def necessary_flops(row: Row) -> dict[str, float]:
    """Of each phase, see `forward_flops`; all groups live."""
    return {"rollout": forward_flops(row), "update": 3 * forward_flops(row)}

"""Diagnostics of a training generation, as metrics and as one row of `diagnostics.jsonl`."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from maxrl.objectives.diagnostics import GroupDiagnostics


def prompt_id(row: Mapping[str, Any]) -> str:
    """The `id` of a row of the data set, else a short hash of the row: one prompt may have several answers."""
    if row.get("id") is not None:
        return str(row["id"])
    text = json.dumps(dict(row), sort_keys=True, default=lambda value: type(value).__name__)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def pass_rates(prompts: Sequence[str], signal_GN: Tensor) -> list[tuple[str, float]]:
    """Prompt id and r̂ of each group with a scored rollout."""
    means = signal_GN.double().nanmean(dim=1).tolist()
    return [(prompt, rate) for prompt, rate in zip(prompts, means, strict=True) if not math.isnan(rate)]


def diagnostic_metrics(found: GroupDiagnostics) -> dict[str, float]:
    """The figures that are single numbers."""
    return {
        "groups/dead": found.dead,
        "groups/live": found.live,
        "groups/mastered": found.mastered,
        **{f"weights/q{round(100 * place):02d}": value for place, value in found.weight_quantiles.items()},
        "weights/effective_sample_size": found.effective_sample_size,
        **{f"train_pass@{k}": rate for k, rate in found.pass_at_k.items()},
    }


def diagnostic_row(step: int, found: GroupDiagnostics, rates: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Everything, as JSON holds it; null for what is not defined.

    Args:
        step: the optimizer step that the generation was drawn for.
        found: its figures.
        rates: prompt id and r̂ of each group.
    """
    figures = {
        name: None if math.isnan(value) else value for name, value in diagnostic_metrics(found).items()
    }
    return {"step": step, **figures, "k_histogram": list(found.k_histogram), "pass_rates": dict(rates)}

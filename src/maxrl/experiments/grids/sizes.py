"""How large a model is, by its name."""

import re


def named_parameters(model: str) -> float | None:
    """Parameters that a model's name states (`Qwen2.5-0.5B`, `SmolLM2-360M`, `Mixtral-8x7B`); None where it states none.

    >>> named_parameters("Qwen/Qwen2.5-0.5B-Instruct"), named_parameters("gpt2")
    (500000000.0, None)
    """
    sizes = re.findall(r"(?<![a-z\d.])(?:(\d+)x)?(\d+(?:\.\d+)?)([mb])(?![a-z\d])", model.lower())
    if not sizes:
        return None
    return max(
        int(copies or 1) * float(number) * (1e6 if unit == "m" else 1e9) for copies, number, unit in sizes
    )

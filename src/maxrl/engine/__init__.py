"""Generation: token ids in; completions with log-probabilities and finish reasons out.

Callers know `Generator`, `SamplingParams` and `Completion`; which back-end serves them is decided elsewhere.
"""

from maxrl.engine.protocol import Completion, Generator, SamplingParams
from maxrl.engine.transformers_backend import TransformersGenerator

__all__ = ["Completion", "Generator", "SamplingParams", "TransformersGenerator"]

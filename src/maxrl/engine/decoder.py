"""One decoding step of all rollouts of a batch, on a GPU recorded once and replayed."""

from typing import Any

import torch
from torch import Tensor, nn

from maxrl.engine.attention import AttentionState
from maxrl.engine.cache import SharedCache


def next_logits(
    model: nn.Module, input_ids: Tensor, position_ids: Tensor, state: AttentionState, keep: Tensor | int = 0
) -> Tensor:
    """(U, V) logits of a (1, S) sequence at the positions `keep`, all of them by default."""
    output: Any = model(
        input_ids=input_ids,
        position_ids=position_ids,
        use_cache=False,
        logits_to_keep=keep,
        shared_prefix=state,
    )
    return output.logits[0]


class Decoder:
    """Feeds each rollout's newest token and returns the logits of its next one.

    Args:
        model: in evaluation mode, under `engine_attention`.
        cache: of the prompts. A static one is stepped by a CUDA graph, since launching a small model's kernels one by
            one takes longer than running them.
        positions: (R,) of the first new tokens.
    """

    def __init__(self, model: nn.Module, cache: SharedCache, positions: Tensor) -> None:
        self.model = model
        self.cache = cache
        self.positions = positions
        self._graph: tuple[torch.cuda.CUDAGraph, Tensor, Tensor] | None = None  # and its input and output
        # Finished rollouts go on costing until they are dropped. Dropping copies the cache, and with a graph
        # costs a new recording.
        self.worth_compacting = 0.5 if cache.static else 0.875

    def step(self, tokens: Tensor) -> Tensor:
        """(R, V) logits behind `tokens` (R,)."""
        logits = self._replayed(tokens) if self.cache.static and tokens.is_cuda else self._forward(tokens)
        if self.cache.advance():
            self._graph = None
        self.positions += 1
        return logits

    def select(self, kept: Tensor) -> None:
        """Only the rollouts `kept` (ascending indices) go on."""
        self.cache.select(kept)
        self.positions = self.positions[kept]
        self._graph = None

    def _forward(self, tokens: Tensor) -> Tensor:
        return next_logits(self.model, tokens[None], self.positions[None], self.cache)

    def _replayed(self, tokens: Tensor) -> Tensor:
        if self._graph is None:
            with torch.cuda.device(tokens.device):
                self._graph = self._record(tokens)
        graph, tokens_in, logits = self._graph
        tokens_in.copy_(tokens)
        graph.replay()
        return logits

    def _record(self, tokens: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """Record `_forward`. Running it more than once is harmless: it writes the same keys to the same place."""
        tokens_in = tokens.clone()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(
            aside
        ):  # libraries set themselves up in the first runs, which cannot be recorded
            for _ in range(2):
                self._forward(tokens_in)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads (a data loader's, pinning memory) may go on with what is forbidden here.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            logits = self._forward(tokens_in)
        return graph, tokens_in, logits

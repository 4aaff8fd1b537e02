"""The shared-prefix sampler: a prompt is read once, however many rollouts go on from it."""

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from maxrl.engine.attention import engine_attention
from maxrl.engine.cache import PrefillState, SharedCache
from maxrl.engine.decoder import Decoder, next_logits
from maxrl.engine.draws import choose, rollout_keys, uniforms
from maxrl.engine.modes import evaluation_mode
from maxrl.engine.packing import MOST_PADDING, PromptGroup, pack, split_groups
from maxrl.engine.protocol import Completion, SamplingParams, check_request
from maxrl.errors import InputError, MaxRLError

CACHE_BYTES = 2**30
"""Default bound on the keys and values of one batch; on a GPU, half of the memory that is free."""

PREFILL_TOKENS = 16_384
"""Most prompt tokens in one forward pass."""

LOGIT_BYTES = 2**29
"""Bound on one step's logits, of which the choice of a token needs several copies."""


@dataclass(frozen=True)
class _Batch:
    """Rollouts drawn together. `rows` are their places in the whole request."""

    prompts: list[Sequence[int]]
    group_of: list[int]
    keys: list[int]
    rows: list[int]

    def slots(self, params: SamplingParams) -> int:
        """Tokens it has room for: prompts are as long as the longest, completions as they may be."""
        return len(self.prompts) * max(map(len, self.prompts)) + len(self.rows) * params.max_completion_length


class SharedPrefixGenerator:
    """`Generator` that prefills each prompt once and decodes all of its rollouts against it.

    Args:
        model: a transformers causal language model that `unsupported_reason` has nothing against; peft's wrapper is
            welcome. It is read, never changed: training mode is restored.
        stop_ids: token ids that end a completion.
        dtype: precision of the weights while sampling; the model's own by default. Another one costs a copy of the
            weights, refreshed at each call.
        batch_tokens: most tokens, prompts and completions together, kept at once; by default what fits 1 GiB of keys
            and values (on a GPU, half of its free memory). What does not fit is drawn in several batches, with the same
            result. Where the device runs out of memory the budget is halved, for this and all later calls, with a
            warning.
        cuda_graphs: on a GPU, record a decoding step once and replay it.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        stop_ids: Sequence[int],
        dtype: torch.dtype | None = None,
        batch_tokens: int | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        if not stop_ids:
            raise InputError("a generator needs at least one stop token id (eos_token_id of the tokenizer)")
        if batch_tokens is not None and batch_tokens < 1:
            raise InputError(f"batch_tokens must be at least 1, but is {batch_tokens}")
        self.model = model
        self.stop_ids = tuple(dict.fromkeys(stop_ids))
        self.dtype = dtype
        self.batch_tokens = batch_tokens
        self.cuda_graphs = cuda_graphs
        self._copy: nn.Module | None = None

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seeds: Sequence[int],
        rollouts: Sequence[range] | None = None,
    ) -> list[list[Completion]]:
        """See `Generator.generate`."""
        numbers = check_request(prompts, params, seeds, rollouts)
        groups = [group for group, range_ in enumerate(numbers) for _ in range_]
        keys = rollout_keys(
            [seeds[group] for group in groups], [r for range_ in numbers for r in range_]
        ).tolist()
        drawn: list[Completion | None] = [None] * len(groups)
        with self._weights() as model, engine_attention(model), torch.inference_mode():
            waiting = list(self._batches(prompts, groups, keys, params, range(len(groups))))
            while waiting:
                batch = waiting.pop(0)
                try:
                    completions = self._draw(model, batch, params)
                except RuntimeError as error:
                    if not _out_of_memory(error) or len(batch.rows) == 1:
                        raise
                    completions = None  # what was tried is freed only after the handler, with its traceback
                if completions is None:
                    self.batch_tokens = max(1, batch.slots(params) // 2)
                    self._report(batch, next(model.parameters()).device)
                    rest = [row for part in [batch, *waiting] for row in part.rows]
                    waiting = list(self._batches(prompts, groups, keys, params, rest))
                    continue
                for row, completion in zip(batch.rows, completions, strict=True):
                    drawn[row] = completion
        done = iter(drawn)
        return [[next(done) for _ in range_] for range_ in numbers]  # pyright: ignore[reportReturnType]

    @contextmanager
    def _weights(self) -> Iterator[nn.Module]:
        """The model in evaluation mode, or its copy in another precision."""
        parameters = list(self.model.parameters())
        whole = all(
            parameter.is_floating_point() for parameter in parameters
        )  # quantized weights stay as they are
        if self.dtype is None or not whole or all(parameter.dtype == self.dtype for parameter in parameters):
            with evaluation_mode(self.model):
                yield self.model
            return
        names = [name for name, _ in self.model.named_parameters()]
        if self._copy is None or [name for name, _ in self._copy.named_parameters()] != names:
            self._copy = _plain_copy(self.model, self.dtype)
        with torch.no_grad():
            torch._foreach_copy_(list(self._copy.parameters()), [p.detach() for p in self.model.parameters()])
        for own, copied in zip(self.model.modules(), self._copy.modules(), strict=True):
            if isinstance(own, BaseTunerLayer) and isinstance(copied, BaseTunerLayer):
                # Which of peft's adapters are at work is no weight.
                copied._disable_adapters, copied._active_adapter = own._disable_adapters, own._active_adapter
                copied.merged_adapters = list(own.merged_adapters)
        yield self._copy

    def _batches(
        self,
        prompts: Sequence[Sequence[int]],
        groups: list[int],
        keys: list[int],
        params: SamplingParams,
        wanted: Iterable[int],
    ) -> Iterator[_Batch]:
        """Wanted rollouts in order of their prompts' lengths: in the cache, a batch's are padded to the longest."""
        budget = self.batch_tokens or self._default_tokens()
        text = self.model.config.get_text_config()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        most = max(1, LOGIT_BYTES // (4 * text.vocab_size))
        order = sorted(wanted, key=lambda row: (len(prompts[groups[row]]), groups[row]))
        rows: list[int] = []
        distinct = prompt_tokens = 0
        for row in order:
            length = len(prompts[groups[row]])
            new = not rows or groups[rows[-1]] != groups[row]
            own = (len(rows) + 1) * params.max_completion_length
            slots = (distinct + new) * length + own
            too_much = slots > MOST_PADDING * (prompt_tokens + new * length + own)
            if rows and (slots > budget or too_much or len(rows) == most):
                yield self._batch(prompts, groups, keys, rows)
                rows, distinct, prompt_tokens, new = [], 0, 0, True
            rows.append(row)
            distinct += new
            prompt_tokens += new * length
        if rows:
            yield self._batch(prompts, groups, keys, rows)

    @staticmethod
    def _batch(
        prompts: Sequence[Sequence[int]], groups: list[int], keys: list[int], rows: list[int]
    ) -> _Batch:
        place = {group: place for place, group in enumerate(dict.fromkeys(groups[row] for row in rows))}
        return _Batch(
            [prompts[group] for group in place],
            [place[groups[row]] for row in rows],
            [keys[row] for row in rows],
            rows,
        )

    def _default_tokens(self) -> int:
        text: Any = self.model.config.get_text_config()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = (self.dtype or next(self.model.parameters()).dtype).itemsize
        device = next(self.model.parameters()).device
        room = _free_bytes(device) // 2 if device.type == "cuda" else CACHE_BYTES
        return max(1, room // (2 * text.num_hidden_layers * kv_heads * size * width))

    def _draw(self, model: nn.Module, batch: _Batch, params: SamplingParams) -> list[Completion]:
        device = next(model.parameters()).device
        stops = torch.tensor(self.stop_ids, device=device)
        keys_R = torch.tensor(batch.keys, device=device)
        most, length = len(batch.rows), params.max_completion_length
        drawn = _Drawn(most, length, device)
        logits_GV, decoder = self._prefill(model, batch, length - 1)
        logits_RV = logits_GV[torch.tensor(batch.group_of, device=device)]
        rows = torch.arange(most, device=device)  # the rollouts still in the cache
        going = torch.ones_like(rows, dtype=torch.bool)  # which of them are unfinished
        for position in range(length):
            uniform = uniforms(keys_R[rows], position) if params.temperature else None
            tokens, logprobs = choose(logits_RV, params, uniform)
            ended = going & torch.isin(tokens, stops)
            drawn.add(position, rows, tokens, logprobs, ended)
            going = going & ~ended
            left = int(going.sum())
            if not left or position == length - 1:
                break
            if left <= decoder.worth_compacting * len(rows):
                kept = going.nonzero()[:, 0]
                rows, going, tokens = rows[kept], going[kept], tokens[kept]
                decoder.select(kept)
            logits_RV = decoder.step(tokens)
        return drawn.completions()

    def _prefill(self, model: nn.Module, batch: _Batch, capacity: int) -> tuple[Tensor, Decoder]:
        """The logits behind each prompt, and a decoder that goes on from there."""
        device = next(model.parameters()).device
        logits: list[Tensor] = []
        layers: dict[int, list[tuple[Tensor, Tensor]]] = {}
        # A stand-in completion of one token asks for the logits behind the prompt, and is never fed in itself.
        groups = [PromptGroup(prompt, [[0]]) for prompt in batch.prompts]
        for chunk in split_groups(groups, PREFILL_TOKENS):
            packed = pack(chunk, device)
            state = PrefillState(packed)
            logits.append(next_logits(model, packed.input_ids, packed.position_ids, state, packed.keep))
            for layer, tensors in state.layers.items():
                layers.setdefault(layer, []).append(tensors)
        lengths = [len(prompt) for prompt in batch.prompts]
        group_of = torch.tensor(batch.group_of, device=device)
        cache = SharedCache(
            {
                layer: (torch.cat([k for k, _ in parts]), torch.cat([v for _, v in parts]))
                for layer, parts in layers.items()
            },
            lengths,
            group_of,
            capacity,
            static=self.cuda_graphs and device.type == "cuda",
        )
        return torch.cat(logits), Decoder(model, cache, torch.tensor(lengths, device=device)[group_of])

    def _report(self, batch: _Batch, device: torch.device) -> None:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"out of memory while sampling {len(batch.rows)} rollouts at once: going on with half as many "
            f"(batch_tokens={self.batch_tokens})",
            stacklevel=3,
        )


class _Drawn:
    """What was drawn so far, on the device."""

    def __init__(self, rows: int, length: int, device: torch.device) -> None:
        self.tokens_RT = torch.zeros(rows, length, dtype=torch.long, device=device)
        self.logprobs_RT = torch.zeros(rows, length, device=device)
        self.lengths_R = torch.full((rows,), length, device=device)
        self.stopped_R = torch.zeros(rows, dtype=torch.bool, device=device)

    def add(self, position: int, rows: Tensor, tokens: Tensor, logprobs: Tensor, ended: Tensor) -> None:
        self.tokens_RT[rows, position] = tokens
        self.logprobs_RT[rows, position] = logprobs
        self.lengths_R[rows] = torch.where(ended, position + 1, self.lengths_R[rows])
        self.stopped_R[rows] |= ended

    def completions(self) -> list[Completion]:
        if not self.logprobs_RT.isfinite().all():
            raise MaxRLError(
                "the model's logits are not finite: its weights have diverged (lower the learning rate, clip "
                "gradients), or overflow in float16 (use bfloat16 or float32)"
            )
        columns = (self.tokens_RT, self.logprobs_RT, self.lengths_R, self.stopped_R)
        return [
            Completion(
                token_ids=tuple(tokens[:length]),
                logprobs=tuple(logprobs[:length]),
                finish_reason="stop" if stopped else "length",
            )
            for tokens, logprobs, length, stopped in zip(
                *(column.tolist() for column in columns), strict=True
            )
        ]


def _plain_copy(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model in another precision, without what training frameworks hang on a module's `forward`.

    Such a wrapper holds on to the module it was made for: a copy's would compute with the original's weights.
    """
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    for module in copied.modules():
        vars(module).pop("forward", None)
        vars(module).pop("_original_forward", None)
    for parameter in copied.parameters():  # buffers keep their precision: rotary frequencies need it
        parameter.data = parameter.data.to(dtype)
    return copied


def _free_bytes(device: torch.device) -> int:
    """Of a GPU, what torch holds without using it included."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed; a CPU's allocator has no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

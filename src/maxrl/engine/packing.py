"""The packed layout: each prompt once, then its completions, all in one sequence without padding.

```
prompt a | completion a0 | a1 | a2 | prompt b | completion b0 | b1 …
```

A completion attends to its prompt and to itself; its positions go on from the prompt's. The last token of a completion
predicts nothing that anybody asks for, so that it is never fed in: a completion of L tokens costs L − 1.

Shape suffixes: S packed tokens, U positions whose logits are needed, M completion tokens, R completions, T their
longest.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from maxrl.errors import InputError

MOST_PADDING = 2
"""Slots of a batch of completions for each token in them, at most; what is padded costs as much as what is not."""

SMALL_BLOCK = 4096
"""So many slots may be padding: one batch more would cost more."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class PromptGroup:
    """A prompt and the completions that go on from it, as token ids."""

    prompt: Sequence[int]
    completions: Sequence[Sequence[int]]

    @property
    def packed_tokens(self) -> int:
        """Tokens that a forward pass over this group feeds in."""
        return len(self.prompt) + sum(max(0, len(completion) - 1) for completion in self.completions)


@dataclass(frozen=True, eq=False)
class CompletionBlock:
    """Completions of about one length, so that attention takes them as one batch; as many of each group.

    Shapes: g groups, P prompt tokens, n completions, T the longest completion's inputs.
    """

    prompt_index: Tensor
    """(g, P) positions in the sequence of what they go on from."""
    index: Tensor
    """(g, n, T) positions in the sequence; where a completion is shorter, any position of the sequence."""
    valid: Tensor | None
    """(g, n, T) false where a completion is shorter than T; None where none is."""


@dataclass(frozen=True, eq=False)
class PackedGroups:
    """Prompt groups as one sequence, with what attention and the loss need to know of it."""

    input_ids: Tensor
    """(1, S)"""
    position_ids: Tensor
    """(1, S)"""
    group_ids: Tensor
    """(S,) group of each token."""
    completion_ids: Tensor
    """(S,) completion of each token, −1 for prompts."""
    keep: Tensor
    """(U,) positions whose logits predict a completion token, each once."""
    source: Tensor
    """(M,) index into `keep` of the position that predicts each completion token."""
    targets: Tensor
    """(M,) the completion tokens."""
    lengths: tuple[int, ...]
    """Tokens of each completion, in the order of the groups."""
    prompt_blocks: tuple[Tensor, ...]
    """(g, P) positions of the g prompts of one length, for every length there is."""
    completion_blocks: tuple[CompletionBlock, ...]
    """Every completion that has inputs, in one of them."""

    def rows(self, values_M: Tensor, *, width: int | None = None) -> Tensor:
        """(R, width) of values per completion token, one row per completion, zero behind its end."""
        lengths = torch.tensor(self.lengths, device=values_M.device)
        longest = max(self.lengths, default=0)
        width = longest if width is None else width
        if width < longest:
            raise InputError(
                f"width must be at least {longest}, the longest completion's length, but is {width}"
            )
        filled = torch.arange(width, device=values_M.device) < lengths[:, None]
        return values_M.new_zeros(filled.shape).masked_scatter(filled, values_M)


def pack(groups: Sequence[PromptGroup], device: torch.device | str = "cpu") -> PackedGroups:
    """Lay groups out one behind the other.

    Completions may be empty or differ in length, groups in size.

    Raises:
        InputError: no group, or a prompt without tokens.
    """
    if not groups:
        raise InputError("nothing to pack: give at least one prompt")
    if any(len(group.prompt) == 0 for group in groups):
        raise InputError("a prompt has no tokens; give each prompt at least one (such as <bos>)")
    ids: list[int] = []
    positions: list[int] = []
    group_ids: list[int] = []
    completion_ids: list[int] = []
    keep: list[int] = []
    source: list[int] = []
    targets: list[int] = []
    spans: list[_Span] = []
    completion = 0
    for group_id, group in enumerate(groups):
        start, length = len(ids), len(group.prompt)
        ids.extend(group.prompt)
        positions.extend(range(length))
        completion_ids.extend([-1] * length)
        last = len(keep)  # the prompt's last token predicts the first token of every completion
        if any(group.completions):
            keep.append(start + length - 1)
        inputs = []
        for tokens in group.completions:
            begin, count = len(ids), max(0, len(tokens) - 1)
            ids.extend(tokens[:count])
            positions.extend(range(length, length + count))
            completion_ids.extend([completion] * count)
            if tokens:
                source.append(last)
                source.extend(range(len(keep), len(keep) + count))
                keep.extend(range(begin, begin + count))
                targets.extend(tokens)
            inputs.append(range(begin, begin + count))
            completion += 1
        group_ids.extend([group_id] * (len(ids) - start))
        spans.append(_Span(range(start, start + length), inputs))

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return PackedGroups(
        input_ids=tensor(ids)[None],
        position_ids=tensor(positions)[None],
        group_ids=tensor(group_ids),
        completion_ids=tensor(completion_ids),
        keep=tensor(keep),
        source=tensor(source),
        targets=tensor(targets),
        lengths=tuple(len(tokens) for group in groups for tokens in group.completions),
        prompt_blocks=tuple(_prompt_blocks(spans, torch.device(device))),
        completion_blocks=tuple(_completion_blocks(spans, torch.device(device))),
    )


@dataclass(frozen=True)
class _Span:
    """Where a group lies in the sequence."""

    prompt: range
    completions: Sequence[range]


def _prompt_blocks(spans: Sequence[_Span], device: torch.device) -> Iterator[Tensor]:
    for prompts in _by_key([span.prompt for span in spans], len):
        yield torch.tensor(prompts, device=device)


def _completion_blocks(spans: Sequence[_Span], device: torch.device) -> Iterator[CompletionBlock]:
    """As few batches as keep the padding below `MOST_PADDING`."""
    for members in _by_key(spans, lambda span: (len(span.prompt), len(span.completions))):
        if not _padded_too_much(members):
            yield from _block(members, device)
            continue
        # Between one power of two and the next, at most half is padding.
        classes = [
            _Span(span.prompt, same)
            for span in members
            for same in _by_key(span.completions, lambda completion: len(completion).bit_length())
        ]
        for same in _by_key(
            classes, lambda span: (len(span.completions), len(span.completions[0]).bit_length())
        ):
            yield from _block(same, device)


def _padded_too_much(spans: Sequence[_Span]) -> bool:
    lengths = [len(completion) for span in spans for completion in span.completions]
    slots = len(lengths) * max(lengths, default=0)
    return slots > max(SMALL_BLOCK, MOST_PADDING * sum(lengths))


def _block(spans: Sequence[_Span], device: torch.device) -> Iterator[CompletionBlock]:
    """Groups of one shape as one batch; nothing where there are no inputs."""
    start = torch.tensor([[completion.start for completion in span.completions] for span in spans])[..., None]
    length = torch.tensor([[len(completion) for completion in span.completions] for span in spans])[..., None]
    if not length.sum():
        return
    step = torch.arange(int(length.max()))
    valid = step < length
    index = torch.where(valid, start + step, start.new_tensor(spans[0].prompt.start))
    yield CompletionBlock(
        prompt_index=torch.tensor([span.prompt for span in spans], device=device),
        index=index.to(device),
        valid=None if bool(valid.all()) else valid.to(device),
    )


def _by_key(items: Sequence[Item], key: Callable[[Item], Hashable]) -> Iterator[list[Item]]:
    """Items that have the same key, in order of their first."""
    found: dict[Hashable, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    yield from found.values()


def split_groups(
    groups: Sequence[PromptGroup], token_budget: int, target_budget: int | None = None
) -> Iterator[list[PromptGroup]]:
    """Cut groups into chunks, in order.

    A group is kept whole where it fits; one that does not is cut between completions into parts of about the same size,
    each with the prompt again. A single completion that does not fit is a chunk of its own.

    Args:
        groups: prompts with their completions.
        token_budget: most packed tokens of a chunk.
        target_budget: most completion tokens of a chunk, each of which costs a row of logits; no bound by default.
    """
    targets = math.inf if target_budget is None else target_budget
    chunk: list[PromptGroup] = []
    tokens = logits = 0
    for group in groups:
        for part in _parts(group, token_budget, targets):
            part_tokens, part_logits = part.packed_tokens, sum(map(len, part.completions))
            if chunk and (tokens + part_tokens > token_budget or logits + part_logits > targets):
                yield chunk
                chunk, tokens, logits = [], 0, 0
            chunk.append(part)
            tokens += part_tokens
            logits += part_logits
    if chunk:
        yield chunk


def _parts(group: PromptGroup, token_budget: int, targets: float) -> Iterator[PromptGroup]:
    """The group, or parts of about the same size that fit; only a completion too long by itself does not."""
    own = group.packed_tokens - len(group.prompt)
    logits = sum(map(len, group.completions))
    room = token_budget - len(group.prompt)
    if own <= room and logits <= targets:
        yield group
        return
    count = max(1, math.ceil(own / max(1, room)), math.ceil(logits / targets))
    part: list[Sequence[int]] = []
    tokens = predicted = 0
    for completion in group.completions:
        more = max(0, len(completion) - 1)
        full = tokens + more > room or predicted + len(completion) > targets
        share = tokens >= own / count and predicted >= logits / count
        if part and (full or share):
            yield PromptGroup(group.prompt, part)
            part, tokens, predicted = [], 0, 0
        part.append(completion)
        tokens += more
        predicted += len(completion)
    yield PromptGroup(group.prompt, part)

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxrl.errors import InputError


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
class Block:
    """Groups of one shape within a packed sequence, so that attention takes them as one batch.

    Shapes: g groups, P prompt tokens, n completions, T the longest completion's inputs.
    """

    prompt_index: Tensor
    """(g, P) positions in the sequence."""
    completion_index: Tensor
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
    blocks: tuple[Block, ...]

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
    spans: list[tuple[int, int, list[tuple[int, int]]]] = []
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
            inputs.append((begin, count))
            completion += 1
        group_ids.extend([group_id] * (len(ids) - start))
        spans.append((start, length, inputs))

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
        blocks=tuple(_blocks(spans, torch.device(device))),
    )


def _blocks(spans: Sequence[tuple[int, int, list[tuple[int, int]]]], device: torch.device) -> Iterator[Block]:
    """One block for all groups with as many prompt tokens and as many completions."""
    shapes: dict[tuple[int, int], list[tuple[int, int, list[tuple[int, int]]]]] = {}
    for span in spans:
        shapes.setdefault((span[1], len(span[2])), []).append(span)
    for (prompt_length, count), members in shapes.items():
        prompt_start = torch.tensor([start for start, _, _ in members])
        prompt_index = prompt_start[:, None] + torch.arange(prompt_length)
        inputs = torch.tensor([span[2] for span in members], dtype=torch.long).view(len(members), count, 2)
        start, length = inputs[..., :1], inputs[..., 1:]
        step = torch.arange(int(length.max()) if count else 0)
        valid = step < length
        index = torch.where(valid, start + step, prompt_start[:, None, None])
        yield Block(
            prompt_index=prompt_index.to(device),
            completion_index=index.to(device),
            valid=None if bool(valid.all()) else valid.to(device),
        )


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
    own = group.packed_tokens - len(group.prompt)
    room = max(1, token_budget - len(group.prompt))
    count = max(1, math.ceil(own / room), math.ceil(sum(map(len, group.completions)) / targets))
    while True:
        # As many completions in each part; where they differ in length, a part may still be too large.
        size = math.ceil(len(group.completions) / count) or 1
        starts = range(0, max(1, len(group.completions)), size)
        parts = [PromptGroup(group.prompt, group.completions[start : start + size]) for start in starts]
        fits = all(
            part.packed_tokens <= token_budget and sum(map(len, part.completions)) <= targets
            for part in parts
        )
        if fits or size == 1:
            yield from parts
            return
        count += 1

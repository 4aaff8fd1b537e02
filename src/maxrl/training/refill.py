"""Live groups in the place of dead ones: which prompts are drawn further, where they go, and one batch of it all."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn

from maxrl.errors import InputError
from maxrl.training.diagnostics import prompt_id
from maxrl.training.layout import Layout
from maxrl.training.pieces import PieceMetrics
from maxrl.training.signal import Draw
from maxrl.training.signalless import live_rows

Pick = tuple[int, int]
"""Number of the draw, and of the group within a rank's part of it."""


def refuse_refill(trainer: Any) -> None:
    """Say why this trainer cannot refill dead groups.

    Raises:
        InputError: it cannot.
    """
    args = trainer.args
    rows = args.per_device_train_batch_size * args.steps_per_generation
    reason = None
    if trainer._is_vlm:
        reason = "the model is multimodal, and images do not move between batches"
    elif trainer.tools:
        reason = "tools are in play, whose calls belong to the batch they were made in"
    elif trainer.environment_factories is not None:
        reason = "an environment is in play, whose state belongs to the batch it was reset for"
    elif not isinstance(trainer.train_dataset, Dataset):
        reason = (
            f"the training data is of type {type(trainer.train_dataset).__name__}, of which no row can be drawn at random; "
            "load it as a Dataset"
        )
    elif rows % trainer.num_generations:
        reason = (
            f"groups of num_generations={trainer.num_generations} are split over ranks, which have {rows} rows of a "
            "generation each (per_device_train_batch_size × steps_per_generation): make that a multiple"
        )
    if reason is not None:
        raise InputError(
            f"refill_dead_groups={args.refill_dead_groups} is not possible: {reason}; or set refill_dead_groups=0"
        )


def further_prompts(dataset: Dataset, count: int, taken: set[str], seed: str) -> list[dict[str, Any]]:
    """Up to `count` random rows that are not `taken` (see `prompt_id`); the same for the same seed."""
    # Of so many distinct rows at most len(taken) are refused.
    indices = random.Random(seed).sample(range(len(dataset)), min(len(dataset), count + len(taken)))
    rows: dict[str, dict[str, Any]] = {}
    for index in indices:
        if len(rows) == count:
            break
        row = dataset[index]
        name = prompt_id(row)
        if name not in taken:
            rows.setdefault(name, row)
    return list(rows.values())


def draw_live(trainer: Any, inputs: list[dict[str, Any]]) -> tuple[Draw, Draw]:
    """Draw a generation, and further prompts until each of its groups is live or the rounds are over.

    A group is live here as for `skip_signalless_steps`: it has an advantage, and on a row with a token to train on.

    Args:
        trainer: a `MaxRLTrainer`.
        inputs: this rank's rows of the generation.

    Returns:
        All that was drawn, without rows; and what is trained on.
    """
    args, accelerator, size = trainer.args, trainer.accelerator, trainer.num_generations
    metrics, table = DrawMetrics(trainer._metrics["train"]), CompletionsTable(trainer._logs)
    draws: list[Draw] = []

    def draw(rows: list[dict[str, Any]]) -> Tensor:
        draws.append(trainer.draw(rows))
        metrics.collect(draws[-1].signal_GN.numel())
        table.take()
        own = live_rows(trainer.with_own_advantages(draws[-1])).view(-1, size).any(dim=1)
        return accelerator.gather(own.int()).bool()

    slots = Slots(draw(inputs), accelerator.num_processes)
    while slots.wanted and len(draws) <= args.refill_dead_groups:
        taken = {prompt for drawn in draws for prompt in drawn.prompts}
        seed = repr(("maxrl refill", args.seed, *trainer.drawn_at))
        prompts = further_prompts(
            trainer.train_dataset, slots.wanted * accelerator.num_processes, taken, seed
        )
        each = len(prompts) // accelerator.num_processes
        if each == 0:  # the data set has no others
            break
        own = prompts[accelerator.process_index * each :][:each]
        slots.fill(draw([dict(row) for row in own for _ in range(size)]))
    metrics.merge()
    table.put(list(slots.gathered()), size)
    trainer._metrics["train"]["refill_rounds"].append(len(draws) - 1)
    trainer._metrics["train"]["groups_refilled"].append(slots.refilled)
    if len(draws) == 1:
        return draws[0], draws[0]
    used = kept(
        draws, slots, accelerator.process_index, trainer._tokenizer.pad_token_id, trainer.advantages_of
    )
    mask = used.rows["completion_mask"] * used.rows.get("tool_mask", 1)
    used.rows["num_items_in_batch"] = accelerator.gather(mask.sum()).sum()  # as TRL counts them
    return joined(draws, trainer.advantages_of), used


class Slots:
    """The group in each place of a generation: the first draw's, until a live one comes for a dead one.

    Groups keep to their rank: every rank knows all signals, but has its own rows only.
    """

    def __init__(self, live_G: Tensor, ranks: int) -> None:
        of_ranks = live_G.view(ranks, -1).tolist()
        self.picks: list[list[Pick]] = [[(0, group) for group in range(len(live))] for live in of_ranks]
        self.dead = [[group for group, live in enumerate(lives) if not live] for lives in of_ranks]
        self._sizes = [len(of_ranks[0])]

    @property
    def wanted(self) -> int:
        """Groups that each rank draws next: as many as the rank with most dead ones needs, so that all draw alike."""
        return max(map(len, self.dead))

    @property
    def refilled(self) -> int:
        """Places whose group came later."""
        return sum(draw > 0 for picks in self.picks for draw, _ in picks)

    def fill(self, live_G: Tensor) -> None:
        """Put the live groups of a further draw into dead places, in order."""
        for rank, lives in enumerate(live_G.view(len(self.picks), -1).tolist()):
            fresh = [group for group, live in enumerate(lives) if live]
            for place, group in zip(self.dead[rank], fresh, strict=False):
                self.picks[rank][place] = (len(self._sizes), group)
            self.dead[rank] = self.dead[rank][len(fresh) :]
        self._sizes.append(len(live_G) // len(self.picks))

    def gathered(self) -> Iterator[Pick]:
        """(draw, number of the group among those of all ranks), in the order of the ranks."""
        for rank, picks in enumerate(self.picks):
            yield from ((draw, rank * self._sizes[draw] + group) for draw, group in picks)


Estimate = Callable[[Tensor, Sequence[str]], Tensor]
"""(signal, tasks) → advantages: anew for what comes together, because an estimator may look at the batch."""


def joined(draws: Sequence[Draw], estimate: Estimate) -> Draw:
    """All that was drawn, one draw after the other; without rows."""
    signal_GN = torch.cat([draw.signal_GN for draw in draws])
    tasks = [task for draw in draws for task in draw.tasks]
    return Draw(
        rows={},
        layout=Layout(tuple(size for draw in draws for size in draw.layout.sizes)),
        rewards_GN=torch.cat([draw.rewards_GN for draw in draws]),
        signal_GN=signal_GN,
        truncated_GN=torch.cat([draw.truncated_GN for draw in draws]),
        prompts=[prompt for draw in draws for prompt in draw.prompts],
        tasks=tasks,
        advantages_GN=estimate(signal_GN, tasks),
    )


def kept(draws: Sequence[Draw], slots: Slots, rank: int, pad_id: int, estimate: Estimate) -> Draw:
    """What is trained on: the groups in their places, with this rank's rows."""
    places = list(slots.gathered())
    signal_GN = torch.stack([draws[draw].signal_GN[group] for draw, group in places])
    tasks = [draws[draw].tasks[group] for draw, group in places]
    return Draw(
        rows=merge_rows(
            [draw.rows for draw in draws], slots.picks[rank], draws[0].signal_GN.shape[1], pad_id
        ),
        layout=draws[0].layout,
        rewards_GN=torch.stack([draws[draw].rewards_GN[group] for draw, group in places]),
        signal_GN=signal_GN,
        truncated_GN=torch.stack([draws[draw].truncated_GN[group] for draw, group in places]),
        prompts=[draws[draw].prompts[group] for draw, group in places],
        tasks=tasks,
        advantages_GN=estimate(signal_GN, tasks),
    )


def merge_rows(
    batches: Sequence[dict[str, Any]], picks: Sequence[Pick], num_generations: int, pad_id: int
) -> dict[str, Any]:
    """One batch of the picked groups of padded batches; `num_items_in_batch` is left to the caller."""
    counts = [len(batch["completion_ids"]) for batch in batches]
    starts = [sum(counts[:draw]) for draw in range(len(batches))]
    rows = torch.tensor(
        [
            starts[draw] + group * num_generations + rollout
            for draw, group in picks
            for rollout in range(num_generations)
        ]
    )
    merged = dict(batches[0])
    for name, value in batches[0].items():
        if isinstance(value, Tensor) and value.dim() and len(value) == counts[0]:
            values = [batch[name] for batch in batches]
            if value.dim() == 2:
                values = _same_width(
                    values, "prompt" in name, _PADDING.get(name, 0) if "_ids" not in name else pad_id
                )
            merged[name] = torch.cat(values)[rows.to(value.device)]
    return merged


_PADDING = {"tool_mask": 1}
"""As TRL pads; masks and log-probabilities with 0."""


def _same_width(values: list[Tensor], on_the_left: bool, filler: int) -> list[Tensor]:
    width = max(value.shape[1] for value in values)
    return [
        nn.functional.pad(
            value, (width - value.shape[1], 0) if on_the_left else (0, width - value.shape[1]), value=filler
        )
        for value in values
    ]


class DrawMetrics(PieceMetrics):
    """Of the draws of a generation. Means weigh them by their rows, so that they are over every rollout that was sampled."""

    def merge(self) -> None:
        for name, pairs in self.collected.items():
            if self.appended(name) > 1 and name != "num_tokens":  # which TRL sets itself, to the latest
                self.replace(name, _combined(name, pairs) if pairs else math.nan)


def _combined(name: str, pairs: Sequence[tuple[float, float]]) -> float:
    # TRL's names; what a reward function calls its own metrics says nothing.
    if name.startswith("completions/min_"):
        return min(value for value, _ in pairs)
    if name.startswith("completions/max_"):
        return max(value for value, _ in pairs)
    return sum(value * rows for value, rows in pairs) / sum(rows for _, rows in pairs)


class CompletionsTable:
    """TRL's table of completions, which holds the latest rows, as one of the rows that are trained on."""

    def __init__(self, logs: dict[str, Any]) -> None:
        self.logs = logs
        self.draws: list[dict[tuple[str, str], list[Any]]] = []
        self._clear()

    def take(self) -> None:
        """Take out what a draw has added."""
        self.draws.append({key: list(column) for key, column in self._columns().items()})
        self._clear()

    def put(self, places: Sequence[Pick], num_generations: int) -> None:
        """Put back the rows of the groups in their places."""
        for kind, name in {key: None for draw in self.draws for key in draw}:
            column = self.logs[kind][name] if name else self.logs[kind]
            for draw, group in places:
                values = self.draws[draw].get((kind, name))
                first = group * num_generations
                column.extend(values[first : first + num_generations] if values else [None] * num_generations)

    def _columns(self) -> dict[tuple[str, str], Any]:
        single = {(kind, ""): self.logs[kind] for kind in ("prompt", "completion", "advantages")}
        named = {
            (kind, name): column for kind in ("rewards", "extra") for name, column in self.logs[kind].items()
        }
        return {**single, **named}

    def _clear(self) -> None:
        for column in self._columns().values():
            column.clear()
        self.logs["extra"].clear()  # a draw need not fill it

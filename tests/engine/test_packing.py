"""Where each token of a packed sequence lies, and how groups are cut into chunks."""

import random

import pytest
import torch
from tests.engine.policies import RAGGED, groups_of

from maxrl.engine import PackedGroups, PromptGroup, pack, split_groups
from maxrl.engine.packed_attention import visible
from maxrl.errors import InputError

GROUPS = [
    PromptGroup([10, 11, 12], [[20, 21], [], [22], [23, 24, 25]]),
    PromptGroup((13,), ((26, 27),)),
    PromptGroup([14, 15], [[], []]),
]


def test_the_layout() -> None:
    packed = pack(GROUPS)
    assert packed.input_ids.tolist() == [[10, 11, 12, 20, 23, 24, 13, 26, 14, 15]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 3, 4, 0, 1, 0, 1]]
    assert packed.group_ids.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2]
    assert packed.completion_ids.tolist() == [-1, -1, -1, 0, 3, 3, -1, 4, -1, -1]
    # Logits: behind a prompt once, though three completions start there; not at all where no completion follows.
    assert packed.keep.tolist() == [2, 3, 4, 5, 6, 7]
    assert packed.targets.tolist() == [20, 21, 22, 23, 24, 25, 26, 27]
    assert packed.keep[packed.source].tolist() == [2, 3, 2, 2, 4, 5, 6, 7]
    assert packed.lengths == (2, 0, 1, 3, 2, 0, 0)


def test_every_prediction_comes_from_the_token_before() -> None:
    packed = pack(RAGGED)
    starts = packed.position_ids[0, packed.keep[packed.source]]
    expected = [
        len(group.prompt) - 1 + step
        for group in RAGGED
        for completion in group.completions
        for step in range(len(completion))
    ]
    assert starts.tolist() == expected
    assert packed.keep.unique().tolist() == packed.keep.tolist()


def test_what_a_token_sees() -> None:
    rows = ["".join("x" if sees else "." for sees in row) for row in visible(pack(GROUPS)).tolist()]
    assert rows == [
        "x.........",
        "xx........",
        "xxx.......",
        "xxxx......",  # the first completion: its prompt and itself
        "xxx.x.....",  # the last: not the first
        "xxx.xx....",
        "......x...",
        "......xx..",
        "........x.",
        "........xx",
    ]


def test_a_group_costs_its_prompt_once_and_no_last_tokens() -> None:
    assert [group.packed_tokens for group in GROUPS] == [6, 2, 2]
    for group in RAGGED:
        assert pack([group]).input_ids.shape == (1, group.packed_tokens)


def test_rows_of_values() -> None:
    packed = pack(GROUPS)
    values = torch.arange(1.0, 9.0)
    expected = [[1, 2, 0], [0, 0, 0], [3, 0, 0], [4, 5, 6], [7, 8, 0], [0, 0, 0], [0, 0, 0]]
    assert packed.rows(values).tolist() == expected
    assert packed.rows(values, width=4).tolist() == [[*row, 0] for row in expected]
    with pytest.raises(
        InputError, match="width must be at least 3, the longest completion's length, but is 2"
    ):
        packed.rows(values, width=2)


def places(packed: PackedGroups) -> list[int]:
    """Every position of the sequence that attention goes through."""
    seen = [position for prompts in packed.prompt_blocks for position in prompts.flatten().tolist()]
    for block in packed.completion_blocks:
        seen += (block.index if block.valid is None else block.index[block.valid]).flatten().tolist()
    return sorted(seen)


def test_blocks_hold_each_token_once() -> None:
    packed = pack(groups_of((2, (4, 1)), (2, (2, 6)), (3, (1, 1)), (2, (3,)), (2, (3, 3))))
    assert [tuple(prompts.shape) for prompts in packed.prompt_blocks] == [(4, 2), (1, 3)]
    assert [tuple(block.index.shape) for block in packed.completion_blocks] == [(3, 2, 5), (1, 1, 2)]
    assert [tuple(block.prompt_index.shape) for block in packed.completion_blocks] == [(3, 2), (1, 2)]
    assert places(packed) == list(range(packed.input_ids.shape[1]))
    assert [block.valid is None for block in packed.completion_blocks] == [False, True]


def test_one_long_completion_does_not_make_the_others_long() -> None:
    packed = pack(groups_of((5, (800, *[15] * 60)), (5, (700, *[15] * 60)), (5, (0, 1, 900, *[15] * 58))))
    assert places(packed) == list(range(packed.input_ids.shape[1]))
    slots = sum(block.index.numel() for block in packed.completion_blocks)
    assert slots <= 2 * packed.input_ids.shape[1]
    for block in packed.completion_blocks:
        # Each lies beside its own prompt.
        for group, prompt in enumerate(block.prompt_index):
            own = block.index[group] if block.valid is None else block.index[group][block.valid[group]]
            assert set(packed.group_ids[own.flatten()].tolist()) == {int(packed.group_ids[prompt[0]])}


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ([], "nothing to pack: give at least one prompt"),
        ([GROUPS[0], PromptGroup([], [[1]])], "a prompt has no tokens; give each prompt at least one"),
    ],
)
def test_what_cannot_be_packed_is_refused(groups: list[PromptGroup], says: str) -> None:
    with pytest.raises(InputError, match=says):
        pack(groups)


# --- chunks --------------------------------------------------------------------------------------------------------


def shape(chunks: list[list[PromptGroup]]) -> list[list[tuple[int, list[int]]]]:
    return [[(len(group.prompt), [len(c) for c in group.completions]) for group in chunk] for chunk in chunks]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (19, [[(4, [3, 3, 3]), (2, [1]), (3, [5, 1])]]),
        (18, [[(4, [3, 3, 3]), (2, [1])], [(3, [5, 1])]]),
        (10, [[(4, [3, 3, 3])], [(2, [1]), (3, [5, 1])]]),
        # A group that does not fit is cut, with its prompt again; what is left of it shares its chunk.
        (9, [[(4, [3, 3])], [(4, [3]), (2, [1])], [(3, [5, 1])]]),
        (8, [[(4, [3, 3])], [(4, [3]), (2, [1])], [(3, [5, 1])]]),
        # A completion too large for the budget stands alone.
        (5, [[(4, [3])], [(4, [3])], [(4, [3])], [(2, [1])], [(3, [5])], [(3, [1])]]),
    ],
)
def test_chunks(budget: int, expected: list[list[tuple[int, list[int]]]]) -> None:
    groups = groups_of((4, (3, 3, 3)), (2, (1,)), (3, (5, 1)))
    assert shape(list(split_groups(groups, budget))) == expected


def test_a_group_is_cut_into_parts_of_one_size() -> None:
    groups = groups_of((4, (3,) * 9))
    # 22 tokens: four completions would fit, but three times three leave no small rest.
    assert shape(list(split_groups(groups, 12))) == [[(4, [3] * 3)]] * 3


def test_a_completion_that_cannot_fit_leaves_the_others_together() -> None:
    groups = groups_of((4, (3, 3, 30, 3, 3, 3)))
    assert shape(list(split_groups(groups, 10))) == [[(4, [3, 3])], [(4, [30])], [(4, [3, 3, 3])]]


def test_one_token_each_is_cut_by_its_logits() -> None:
    groups = groups_of((4, (1,) * 6))
    assert shape(list(split_groups(groups, 10, 3))) == [[(4, [1] * 3)]] * 2


def test_logits_have_a_budget_of_their_own() -> None:
    groups = groups_of((4, (3, 3, 3, 3)), (2, (1,)), (3, (5, 1)))
    assert shape(list(split_groups(groups, 1000, 13))) == [[(4, [3] * 4), (2, [1])], [(3, [5, 1])]]
    assert shape(list(split_groups(groups, 1000, 7))) == [
        [(4, [3, 3])],
        [(4, [3, 3]), (2, [1])],
        [(3, [5, 1])],
    ]


def test_nothing_makes_no_chunk() -> None:
    assert list(split_groups([], 10)) == []


@pytest.mark.parametrize("seed", range(100))
def test_chunks_keep_everything_in_order_and_the_budgets(seed: int) -> None:
    dice = random.Random(seed)
    shapes = [
        (dice.randint(1, 6), [dice.randint(0, 6) for _ in range(dice.randint(0, 5))])
        for _ in range(dice.randint(1, 5))
    ]
    groups = groups_of(*shapes, seed=seed)
    budget, targets = dice.randint(1, 40), dice.choice([None, dice.randint(1, 20)])
    chunks = list(split_groups(groups, budget, targets))
    assert all(chunks)
    parts = [part for chunk in chunks for part in chunk]
    assert [(p.prompt, c) for p in parts for c in p.completions] == [
        (g.prompt, c) for g in groups for c in g.completions
    ]

    def fits(pieces: list[PromptGroup]) -> bool:
        wanted = sum(len(completion) for piece in pieces for completion in piece.completions)
        return sum(piece.packed_tokens for piece in pieces) <= budget and wanted <= (targets or wanted)

    for chunk in chunks:
        assert fits(chunk) or (len(chunk) == 1 and len(chunk[0].completions) <= 1)
    for group in groups:
        assert group in parts or not fits([group])

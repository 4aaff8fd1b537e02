"""All kernels are one function: causal attention of every sequence by itself."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.engine.policies import ARCHITECTURES, RAGGED, build, groups_of
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from maxrl.engine import PromptGroup, engine_attention, pack
from maxrl.engine.attention import IMPLEMENTATION, PackedState, shared_prefix_attention
from maxrl.engine.cpu_attention import SMALL_RECTANGLE, SMALL_TRIANGLE
from maxrl.engine.packed_attention import packed_attention
from maxrl.errors import InputError

SCALE = 0.3

CASES = {
    "ragged": RAGGED,
    "even": groups_of((4, (3, 3)), (4, (3, 3)), (4, (3, 3))),
    "prompts alone": groups_of((4, (1, 0)), (2, ()), (1, (1,))),
    "at the border": groups_of((3, (SMALL_TRIANGLE + 1, 5))),  # the last token is not fed in
    "behind the border": groups_of((3, (SMALL_TRIANGLE + 2, 5, 0)), (3, (7, 1, 2)), (2, (4,))),
    # Batched by length, or almost all would be padding.
    "one of them long": groups_of((3, (120, *[4, 2] * 20)), (3, (100, *[3, 5] * 20)), (2, (4,))),
    "long prompts": groups_of(
        (SMALL_RECTANGLE + 10, (7, 3, 0)), (SMALL_RECTANGLE + 10, (4, 6, 2)), (2, (4,))
    ),
}

KERNELS = [
    "dense",
    "blocks",
    pytest.param(
        "flex", marks=pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
    ),
]


def inputs(groups: list[PromptGroup], heads: int, kv_heads: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Random queries, keys and values, and a gradient of the output."""
    length = pack(groups).input_ids.shape[1]
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(length, count, 16, generator=generator, dtype=torch.float64)
        for count in (heads, kv_heads, kv_heads, heads)
    ]
    return tuple(tensor.to(dtype) for tensor in drawn)


def by_sequence(query: Tensor, key: Tensor, value: Tensor, groups: list[PromptGroup]) -> Tensor:
    """Each prompt with each of its completions cut out and attended to alone."""
    share = query.shape[1] // key.shape[1]
    out = torch.zeros_like(query)
    start = 0
    for group in groups:
        prompt = list(range(start, start + len(group.prompt)))
        start += len(prompt)
        for completion in [[], *group.completions]:
            own = list(range(start, start + max(0, len(completion) - 1)))
            start += len(own)
            picked = torch.tensor(prompt + own)
            q, k, v = (tensor[picked].transpose(0, 1) for tensor in (query, key, value))
            k, v = k.repeat_interleave(share, 0), v.repeat_interleave(share, 0)
            alone = scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE).transpose(0, 1)
            new = own or prompt
            out = out.index_copy(0, torch.tensor(new), alone[-len(new) :])
    return out


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)], ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_sequence_by_itself(kernel: str, case: str, heads: tuple[int, int]) -> None:
    groups = CASES[case]
    # A model's own are not contiguous either: heads come before tokens there.
    *tensors, grad = (
        tensor.transpose(0, 1).contiguous().transpose(0, 1)
        for tensor in inputs(groups, *heads, torch.float64)
    )
    with_gradient = kernel != "flex"  # which has a backward on GPUs only
    leaves = [tensor.requires_grad_(with_gradient) for tensor in tensors]
    query, key, value = leaves
    found = packed_attention(query, key, value, pack(groups), SCALE, kernel=kernel)
    expected = by_sequence(query, key, value, groups)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    if not with_gradient:
        return
    pairs = zip(
        torch.autograd.grad(found, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


@pytest.mark.parametrize("case", ["ragged", "behind the border", "long prompts"])
@pytest.mark.parametrize("kernel", ["dense", "blocks"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=["fp32", "bf16"]
)
def test_lower_precision(kernel: str, case: str, dtype: torch.dtype, tolerance: float) -> None:
    groups = CASES[case]
    results = []
    for precision in (dtype, torch.float64):
        query, key, value, grad = inputs(groups, 4, 2, precision)
        leaves = [tensor.requires_grad_() for tensor in (query, key, value)]
        out = packed_attention(query, key, value, pack(groups), SCALE, kernel=kernel)
        results.append([out, *torch.autograd.grad(out, leaves, grad)])
    for low, exact in zip(*results, strict=True):
        assert low.dtype == dtype
        error = (low.double() - exact).norm() / exact.norm()
        assert error < tolerance


def test_blocks_serve_a_cpu() -> None:
    query, key, value, _ = inputs(RAGGED, 4, 2, torch.float32)
    packed = pack(RAGGED)
    by_default = packed_attention(query, key, value, packed, SCALE)
    assert torch.equal(by_default, packed_attention(query, key, value, packed, SCALE, kernel="blocks"))


@pytest.mark.parametrize("length", [20, SMALL_TRIANGLE + 20])
def test_nothing_quadratic_is_kept_for_the_backward(length: int) -> None:
    groups = groups_of((60, (length,) * 4))
    query, key, value, _ = inputs(groups, 4, 2, torch.float32)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        packed_attention(query.requires_grad_(), key, value, pack(groups), SCALE, kernel="blocks")
    assert max(kept) <= query.numel()


# --- as transformers calls it --------------------------------------------------------------------------------------


def call(**changed: Any) -> Any:
    """The attention function with what a model passes to it."""
    query, key, value, _ = (tensor.transpose(0, 1)[None] for tensor in inputs(RAGGED, 4, 2, torch.float32))
    arguments: dict[str, Any] = {
        "query": query,
        "key": key,
        "value": value,
        "attention_mask": None,
        "shared_prefix": PackedState(pack(RAGGED)),
    }
    return shared_prefix_attention(SimpleNamespace(layer_idx=0), **{**arguments, **changed})  # pyright: ignore[reportArgumentType]


def test_shapes_and_the_default_scale() -> None:
    out, weights = call()
    assert weights is None
    assert out.shape == (1, pack(RAGGED).input_ids.shape[1], 4, 16)
    assert torch.equal(out, call(scaling=0.25)[0])  # of heads of 16
    assert not torch.equal(out, call(scaling=0.5)[0])


def test_one_precision_for_all() -> None:
    # Qwen3's norms hand over fp32 queries beside bf16 values; autocast asks for its own.
    query, key, value, _ = (tensor.transpose(0, 1)[None] for tensor in inputs(RAGGED, 4, 2, torch.float32))
    assert call(value=value.bfloat16())[0].dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert call(query=query, key=key, value=value)[0].dtype == torch.bfloat16


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match=r"without its layout; use maxrl\.engine, not the model"):
        call(shared_prefix=None)
    with pytest.raises(InputError, match=r"attention_dropout=0\.1 is not supported .*; set it to 0, or"):
        call(dropout=0.1)


def implementations(model: nn.Module) -> set[str]:
    configs = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    return {config._attn_implementation for config in configs}  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_keeps_its_own_attention(name: str) -> None:
    model = build(name)
    before = implementations(model)
    assert before == {"sdpa"}
    with engine_attention(model):
        assert implementations(model) == {IMPLEMENTATION}
        with engine_attention(model):
            pass
        assert implementations(model) == {IMPLEMENTATION}
    assert implementations(model) == before
    with pytest.raises(KeyboardInterrupt), engine_attention(model):
        raise KeyboardInterrupt
    assert implementations(model) == before


def test_an_unknown_kernel_is_refused() -> None:
    packed = pack([PromptGroup([1, 2], [[3, 4]])])
    rows = torch.zeros(3, 1, 4)
    with pytest.raises(InputError, match=r"unknown attention kernel 'bloks'.*did you mean 'blocks'"):
        packed_attention(rows, rows, rows, packed, 1.0, kernel="bloks")

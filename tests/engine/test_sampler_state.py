"""What sampling leaves as it was, and the copy of the weights in another precision."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.engine.policies import PROMPTS, build, dense_logprobs, generator
from torch import Tensor, nn

from maxrl.engine import Completion, PromptGroup, SamplingParams, SharedPrefixGenerator

SEEDS = [3, 1, 4, 1, 5]
PARAMS = SamplingParams(max_completion_length=8, num_generations=4)
GREEDY = SamplingParams(max_completion_length=8, temperature=0)


def draw(sampling: SharedPrefixGenerator, params: SamplingParams = PARAMS) -> list[list[Completion]]:
    return sampling.generate(PROMPTS, params, seeds=SEEDS)


def with_dropout(name: str) -> Callable[[], nn.Module]:
    """A policy in training mode, some of it in evaluation mode as a caller may want it, that drops out."""

    def make() -> nn.Module:
        model: Any = build(name)
        for module in model.modules():
            if isinstance(module, nn.Dropout | nn.Identity):
                continue
            if hasattr(module, "lora_dropout"):
                module.lora_dropout["default"] = nn.Dropout(0.5)
        base = model.get_base_model() if name.endswith("-lora") else model
        for layer in base.model.layers:
            layer.self_attn.attention_dropout = 0.5
        model.train()
        base.lm_head.eval()
        return model

    return make


PREPARED = [pytest.param(with_dropout(name), id=name) for name in ("qwen2", "qwen2-lora")]


def worst_error(model: nn.Module, groups: Sequence[Sequence[Completion]]) -> float:
    """Largest distance of a log-probability from a dense forward's in evaluation mode."""
    rows = [
        PromptGroup(prompt, [one.token_ids for one in group])
        for prompt, group in zip(PROMPTS, groups, strict=True)
    ]
    with torch.no_grad():
        dense = torch.cat(dense_logprobs(copy.deepcopy(model).eval(), rows))
    found = torch.tensor([logprob for group in groups for one in group for logprob in one.logprobs])
    return float((dense - found).abs().max())


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in [*model.parameters(), *model.buffers()]]


@pytest.mark.parametrize("dtype", [None, torch.float64])
@pytest.mark.parametrize("prepare", PREPARED)
def test_dropout_is_off_and_the_mode_comes_back(
    prepare: Callable[[], nn.Module], dtype: torch.dtype | None
) -> None:
    model = prepare()
    ids = torch.tensor([PROMPTS[2]])
    with torch.no_grad():
        assert not torch.equal(model(ids).logits, model(ids).logits)  # dropout is at work
    before = [module.training for module in model.modules()]
    assert len(set(before)) == 2
    groups = draw(generator(model, dtype=dtype))
    assert [module.training for module in model.modules()] == before
    assert worst_error(model, groups) < 1e-5


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("prepare", PREPARED)
def test_the_model_is_read_and_not_changed(
    prepare: Callable[[], nn.Module], dtype: torch.dtype | None
) -> None:
    model: Any = prepare()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    before = weights(model)
    draw(generator(model, dtype=dtype))
    for one, other in zip(before, weights(model), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    # Neither in inference mode nor with the engine's attention: training goes on.
    model(torch.tensor([PROMPTS[0]])).logits.sum().backward()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_global_random_state_is_left_alone(dtype: torch.dtype | None) -> None:
    model = build("qwen2")
    before = torch.get_rng_state()
    first = draw(generator(model, dtype=dtype))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12345)
    assert draw(generator(model, dtype=dtype)) == first
    torch.set_rng_state(before)


@pytest.mark.parametrize("prepare", PREPARED)
def test_a_failure_leaves_everything_as_it_was(prepare: Callable[[], nn.Module]) -> None:
    model: Any = prepare()
    before = [module.training for module in model.modules()]

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw(generator(model))
    hook.remove()
    assert [module.training for module in model.modules()] == before
    model(torch.tensor([PROMPTS[0]])).logits.sum().backward()


def test_an_adapter_is_part_of_the_policy() -> None:
    model: Any = build("qwen2-lora")
    adapted = draw(generator(model), GREEDY)
    with model.disable_adapter():
        assert draw(generator(model), GREEDY) != adapted
    assert draw(generator(model), GREEDY) == adapted


# --- another precision ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama", "qwen2-lora"])
def test_a_copy_in_bfloat16(name: str) -> None:
    model = build(name)
    groups = draw(generator(model, dtype=torch.bfloat16))
    # Roughly the model's own log-probabilities, and not exactly: bfloat16 keeps eight bits.
    assert 1e-3 < worst_error(model, groups) < 1
    lower = copy.deepcopy(model)
    for parameter in lower.parameters():
        parameter.data = parameter.data.bfloat16()
    assert draw(generator(lower)) == groups
    assert draw(generator(lower, dtype=torch.bfloat16)) == groups


@pytest.mark.parametrize("name", ["qwen2", "llama", "qwen2-lora"])
def test_the_copy_follows_the_weights(name: str) -> None:
    # In fp64, so that the copy's log-probabilities are the model's own.
    model = build(name)
    asked: list[nn.Module] = []
    model.register_forward_pre_hook(lambda module, _: asked.append(module))  # the copy takes it along
    sampling = generator(model, dtype=torch.float64)
    before = draw(sampling)
    first, *_ = asked
    assert worst_error(model, before) < 1e-5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.2)
    assert worst_error(model, before) > 1e-2
    after = draw(sampling)
    assert worst_error(model, after) < 1e-4  # larger weights, more rounding in the model's own forward
    asked.clear()
    assert draw(sampling) == after
    assert all(module is first for module in asked)  # one copy, however often it is asked
    assert asked


def test_a_copy_follows_its_adapter() -> None:
    model: Any = build("qwen2-lora")
    sampling = generator(model, dtype=torch.float64)
    adapted = draw(sampling, GREEDY)
    with model.disable_adapter():
        plain = draw(sampling, GREEDY)
        assert worst_error(model, plain) < 1e-5
    assert plain != adapted
    assert draw(sampling, GREEDY) == adapted
    model.merge_adapter()  # the adapter's part is now in the weights, and must not come twice
    assert worst_error(model, draw(sampling, GREEDY)) < 1e-5


def test_no_copy_where_the_precision_is_the_models() -> None:
    model = build("qwen2")
    seen: list[nn.Module] = []
    model.register_forward_pre_hook(lambda module, _: seen.append(module))
    draw(generator(model, dtype=torch.float32))
    assert all(module is model for module in seen)
    assert seen


def test_a_copy_computes_with_its_own_weights_under_a_trainers_wrappers() -> None:
    """TRL and accelerate replace `forward` on the instance, by functions that hold on to the original."""
    model = build("qwen2")
    sampling = generator(model, dtype=torch.bfloat16)
    expected = draw(sampling)
    original = model.forward

    def held(*_: Any, **__: Any) -> Any:
        raise AssertionError("the original computed")

    model.forward = model._original_forward = held
    assert draw(generator(model, dtype=torch.bfloat16)) == expected
    model.forward = original


def test_a_copy_is_made_anew_where_an_adapter_was_added() -> None:
    model = build("qwen2")
    sampling = generator(model, dtype=torch.float64)
    draw(sampling)
    sampling.model = build("qwen2-lora")
    assert worst_error(sampling.model, draw(sampling)) < 1e-5


def test_quantized_weights_are_sampled_as_they_are() -> None:
    """Packed integers are no numbers: another precision would make noise of them."""
    model = build("qwen2")
    expected = draw(generator(model))
    model.packed = nn.Parameter(torch.zeros(3, dtype=torch.uint8), requires_grad=False)
    assert draw(generator(model, dtype=torch.bfloat16)) == expected

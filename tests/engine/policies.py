"""Small policies of several architectures, and what a plain forward and statistics say of them: the engine's measure."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from maxrl.engine import PromptGroup, SharedPrefixGenerator, engine_attention, token_logprobs

VOCABULARY = 24

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}

# Between them: one to four queries to a key head, tied and untied embeddings, heads of another size than width / heads.
ARCHITECTURES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"num_key_value_heads": 2}),
    "qwen3": (
        Qwen3Config,
        Qwen3ForCausalLM,
        {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True},
    ),
    "llama": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"num_key_value_heads": 2, "sliding_window": None}),
    "qwen2-lora": (Qwen2Config, Qwen2ForCausalLM, {"num_key_value_heads": 2, "tie_word_embeddings": True}),
}


def build(name: str, *, seed: int = 0, **config: Any) -> PreTrainedModel:
    """A policy with weights so large that attention matters and distributions are far from uniform."""
    config_class, model_class, special = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = model_class(config_class(**{"vocab_size": VOCABULARY, **SHAPE, **special, **config}))
        if name.endswith("-lora"):
            targets = ["q_proj", "v_proj", "down_proj"]
            lora = LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
            model = get_peft_model(model, lora)
        with torch.no_grad():
            for parameter in model.parameters():
                # Vectors are the norms' weights, ones, and biases, zeros.
                noise = torch.randn_like(parameter) * 0.25
                parameter.copy_(noise if parameter.ndim > 1 else parameter + noise)
    return model.eval()  # pyright: ignore[reportReturnType]


def in_double(model: nn.Module) -> nn.Module:
    """The model in fp64 throughout.

    transformers' RMSNorm computes in float32 whatever comes in, which would hide differences below 3e-8: torch's own
    stands in, which computes in the precision of its input.
    """
    model = model.double()
    for module in list(model.modules()):
        child: Any
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                norm = nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon, dtype=torch.float64)
                norm.weight = child.weight
                setattr(module, name, norm)
    return model


def tokens(count: int, seed: int, vocabulary: int = VOCABULARY) -> list[int]:
    """Random token ids."""
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


PROMPTS = [tokens(length, 7 + length) for length in (5, 1, 9, 5, 2)]
"""To sample from; one is of one token, two are alike."""

STOPS = (2, 9, 17)


def generator(model: nn.Module, stop_ids: Sequence[int] = STOPS, **options: Any) -> SharedPrefixGenerator:
    """The engine's."""
    return SharedPrefixGenerator(model, stop_ids=stop_ids, **options)


def groups_of(*shapes: tuple[int, Sequence[int]], seed: int = 0) -> list[PromptGroup]:
    """Groups of the given lengths: (of the prompt, of its completions)."""
    return [
        PromptGroup(
            tokens(prompt, seed + 100 * number),
            [tokens(length, seed + 100 * number + place) for place, length in enumerate(lengths, 1)],
        )
        for number, (prompt, lengths) in enumerate(shapes)
    ]


RAGGED = groups_of(
    (5, (3, 1, 0, 7)),
    (1, (4,)),
    (5, (2, 2, 6, 1)),  # of the first one's shape: both are one block
    (3, ()),
    (2, (0, 0)),
    (9, (1,)),
    (4, (5, 5)),
)
"""Ragged in every way: also one-token and empty completions, a prompt of one token, groups without a completion."""


def dense_logits(model: nn.Module, ids: Sequence[int]) -> Tensor:
    """(tokens, V) logits behind each token of a sequence, by one forward without cache or padding."""
    return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]


def dense_rows(model: nn.Module, groups: Sequence[PromptGroup], temperature: float = 1.0) -> list[Tensor]:
    """(length, V) log-distributions that each completion's tokens were chosen from, by a forward of its own."""
    rows: list[Tensor] = []
    for group in groups:
        for completion in group.completions:
            logits = dense_logits(model, [*group.prompt, *completion])[len(group.prompt) - 1 : -1]
            rows.append((logits / temperature).log_softmax(-1))
    return rows


def dense_logprobs(model: nn.Module, groups: Sequence[PromptGroup], temperature: float = 1.0) -> list[Tensor]:
    """Log-probabilities of each completion's tokens, by a forward of its own."""
    completions = [completion for group in groups for completion in group.completions]
    return [
        row.gather(1, torch.tensor(completion, dtype=torch.long)[:, None])[:, 0]
        for row, completion in zip(dense_rows(model, groups, temperature), completions, strict=True)
    ]


def weighted(rows: Sequence[Tensor], seed: int = 0) -> Tensor:
    """A loss that gives each number a weight of its own, of either sign; what is padding in `rows` must be 0."""
    width = 300
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(len(rows), width, generator=generator, dtype=torch.float64)
    return torch.stack(
        [(row.double() * weights[number, : len(row)]).sum() for number, row in enumerate(rows)]
    ).sum()


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Of every parameter that is trained, by name."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))


def packed_gradients(model: nn.Module, groups: Sequence[PromptGroup], **options: Any) -> dict[str, Tensor]:
    """Gradients of `weighted` through the engine."""
    with engine_attention(model):
        return gradients(model, weighted(list(token_logprobs(model, groups, **options).logprobs)))


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """‖one − other‖ / ‖other‖ over all parameters together."""
    assert one.keys() == other.keys()
    difference = sum(float((one[name] - other[name]).double().square().sum()) for name in one)
    return (difference / sum(float(other[name].double().square().sum()) for name in other)) ** 0.5


def p_value(counts: Mapping[Any, int], probabilities: Mapping[Any, float]) -> float:
    """Pearson's χ² test: how likely counts are as far from the probabilities as these. Cells too small for it are one."""
    draws = sum(counts.values())
    large = [cell for cell, mass in probabilities.items() if mass * draws >= 5]
    expected = [probabilities[cell] * draws for cell in large]
    found = [counts.get(cell, 0) for cell in large]
    rest = draws - sum(expected)
    if rest > 1e-3:
        expected, found = [*expected, rest], [*found, draws - sum(found)]
    statistic = sum((n - m) ** 2 / m for n, m in zip(found, expected, strict=True))
    freedom = len(expected) - 1
    return float(torch.special.gammaincc(torch.tensor(freedom / 2.0), torch.tensor(statistic / 2.0)))

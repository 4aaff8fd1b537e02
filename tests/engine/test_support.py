"""Which models the engine serves, and in which words it declines."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from peft import PromptTuningConfig, get_peft_model
from tests.engine.policies import ARCHITECTURES, SHAPE, VOCABULARY, build
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

from maxrl.engine import unsupported_reason

LENGTH_BASED = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
BY_POSITION = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}


def other(name: str, **config: Any) -> PreTrainedModel:
    """A model of another architecture, for which no support is promised."""
    module: Any = transformers
    config_class = getattr(module, f"{name}Config")
    [model_class] = [
        getattr(module, name + head)
        for head in ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
        if hasattr(module, name + head)
    ]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        shape = {"vocab_size": VOCABULARY, **SHAPE, "num_key_value_heads": 2, "initializer_range": 0.2}
        return model_class(config_class(**{**shape, **config}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_promised(name: str, dtype: torch.dtype) -> None:
    model: Any = build(name)
    assert unsupported_reason(model.to(dtype)) is None


def test_a_rotary_embedding_that_is_scaled_by_position() -> None:
    assert unsupported_reason(build("llama", rope_parameters=BY_POSITION)) is None


def prompt_tuned() -> nn.Module:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    return get_peft_model(build("qwen2"), config)  # pyright: ignore[reportArgumentType]


ENCODER_DECODER = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 1,
    "num_heads": 4,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
EYES = CLIPVisionConfig(
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=4,
    patch_size=2,
)
TWO_HEAD_SIZES = {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 1,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "moe_intermediate_size": 16,
}

DECLINED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "window": (
        lambda: build("mistral", sliding_window=4),
        "its attention is limited to a sliding window of 4 tokens",
    ),
    "layers with windows": (
        lambda: build("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1),
        r"it has layers of another kind than full attention \(sliding_attention\)",
    ),
    "gemma 2": (
        lambda: other("Gemma2", head_dim=8),
        r"another kind than full attention \(sliding_attention\)",
    ),
    "capped scores": (
        lambda: other("Gemma2", head_dim=8, layer_types=["full_attention"] * 2),
        r"it caps its attention scores \(attn_logit_softcapping\)",
    ),
    "encoder-decoder": (
        lambda: other("T5", **ENCODER_DECODER),
        "T5ForConditionalGeneration is an encoder-decoder",
    ),
    "pictures": (
        lambda: LlavaForConditionalGeneration(
            LlavaConfig(vision_config=EYES, text_config=build("llama").config)
        ),
        "LlavaForConditionalGeneration is multimodal",
    ),
    "no attention at all": (
        lambda: other("Mamba"),
        "MambaForCausalLM does not take its attention from transformers' AttentionInterface",
    ),
    "rotary by length": (
        lambda: build("llama", rope_parameters=LENGTH_BASED),
        r"its rotary embedding \(dynamic\) depends on the length of the batch",
    ),
    "attention dropout": (
        lambda: build("qwen2", attention_dropout=0.1),
        "it trains with attention_dropout=0.1",
    ),
    "attention dropout by another name": (
        lambda: other("GPT2", n_embd=32, n_layer=2, n_head=4),
        "it trains with attn_pdrop=0.1",
    ),
    "keys and values of two sizes": (
        lambda: other("DeepseekV3", **TWO_HEAD_SIZES),
        r"a trial over a packed sequence failed \(RuntimeError: ",
    ),
    "virtual tokens": (prompt_tuned, "peft's PROMPT_TUNING adds virtual tokens to every prompt"),
    "not transformers'": (lambda: nn.Linear(2, 2), "Linear is not a model of transformers"),
}


@pytest.mark.parametrize("case", DECLINED)
def test_what_is_declined(case: str) -> None:
    make, says = DECLINED[case]
    reason = unsupported_reason(make())
    assert reason is not None
    assert re.search(says, reason)
    assert not reason.endswith(".")  # it stands within a sentence


# --- the trial -----------------------------------------------------------------------------------------------------


def sees_the_neighbour(model: PreTrainedModel) -> None:
    """Each token's embedding leaks into the next one's: from one completion into the next when packed."""

    def shift(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
        return embedded + embedded.roll(1, dims=1)

    model.get_input_embeddings().register_forward_hook(shift)  # pyright: ignore[reportOptionalMemberAccess]


def sees_a_little_of_the_neighbour(model: PreTrainedModel) -> None:
    """As much as changes log-probabilities by a thousandth or so."""

    def shift(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
        return embedded + 0.001 * embedded.roll(1, dims=1)

    model.get_input_embeddings().register_forward_hook(shift)  # pyright: ignore[reportOptionalMemberAccess]


def counts_positions_itself(model: PreTrainedModel) -> None:
    """Positions of the row, whatever the caller says."""

    def replace(_: nn.Module, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        length = inputs["input_ids"].shape[1]
        return args, {**inputs, "position_ids": torch.arange(length)[None]}

    model.register_forward_pre_hook(replace, with_kwargs=True)


def gives_all_logits(model: PreTrainedModel) -> None:
    """logits_to_keep is accepted and ignored."""

    def drop(_: nn.Module, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**inputs, "logits_to_keep": 0}

    model.register_forward_pre_hook(drop, with_kwargs=True)


@pytest.mark.parametrize(
    "patch",
    [sees_the_neighbour, sees_a_little_of_the_neighbour, counts_positions_itself, gives_all_logits],
)
@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_a_forward_of_its_own_is_found_out(name: str, patch: Callable[[PreTrainedModel], None]) -> None:
    model = build(name)
    patch(model)
    reason = unsupported_reason(model)
    assert reason is not None
    assert reason.startswith("its log-probabilities over a packed sequence differ from a plain forward's by ")
    assert float(reason.split()[-1]) > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_trial_sees_through_half_precision(dtype: torch.dtype) -> None:
    model = build("qwen2").to(dtype)
    assert unsupported_reason(model) is None
    sees_the_neighbour(model)
    assert "differ from a plain forward's" in str(unsupported_reason(model))


def test_other_devices_are_declined() -> None:
    assert unsupported_reason(build("qwen2").to("meta")) == "it runs on meta, and the engine on cpu and cuda"


def test_a_forward_that_takes_less_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("qwen2")
    forward = model.forward

    def patched(input_ids: Tensor, use_cache: bool = False, logits_to_keep: Any = 0) -> Any:
        return forward(input_ids=input_ids, use_cache=use_cache, logits_to_keep=logits_to_keep)

    monkeypatch.setattr(model, "forward", patched)
    reason = unsupported_reason(model)
    assert reason is not None
    assert reason.startswith("a trial over a packed sequence failed (TypeError: ")


def test_a_forward_without_logits_to_keep_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("qwen2")
    monkeypatch.setattr(model, "forward", lambda input_ids: None)
    assert unsupported_reason(model) == "the forward of Qwen2ForCausalLM has no logits_to_keep"


def test_the_smallest_vocabulary_will_do() -> None:
    assert unsupported_reason(build("qwen2", vocab_size=2)) is None


@pytest.mark.parametrize("broken", [False, True])
def test_the_model_stays_as_it_was(broken: bool) -> None:
    model: Any = build("qwen2-lora")
    model.train()
    model.base_model.eval()
    model.base_model.model.lm_head.train()
    for module in model.modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = nn.Dropout(0.5)  # off in the trial, or it would decline
    before = [module.training for module in model.modules()]
    assert len(set(before)) == 2
    random_state = torch.get_rng_state()
    hook = model.base_model.model.lm_head.register_forward_hook(lambda *_: 1 / 0 if broken else None)
    reason = unsupported_reason(model)
    hook.remove()
    assert (reason is not None) is broken
    assert [module.training for module in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in model.parameters())
    model(torch.tensor([[1, 2, 3]])).logits.sum().backward()  # with its own attention


def test_memory_that_runs_out_is_no_reason() -> None:
    model = build("qwen2")

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        unsupported_reason(model)

"""Whether the shared-prefix engine can serve a model: asked of its configuration, then tried out."""

import inspect
from typing import Any

import torch
from peft import PeftModel, PeftType
from torch import nn
from transformers import PreTrainedModel

from maxrl.engine.attention import engine_attention
from maxrl.engine.modes import attention_of, evaluation_mode
from maxrl.engine.packing import PromptGroup
from maxrl.engine.scoring import token_logprobs

ROTARY_KINDS = ("default", "linear", "llama3", "yarn", "proportional")
"""Rotary embeddings whose angle depends on a token's position alone, not on the length of the batch."""

ATTENTION_DROPOUTS = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
"""What architectures call the share of attention weights that training drops."""


def unsupported_reason(model: nn.Module, *, training: bool = True) -> str | None:
    """Why the engine cannot serve this model exactly; None where it can.

    What a configuration tells is not the whole truth (remote code, a patched forward), so that a few tokens are also run
    through the model both ways, the usual one and packed.

    Args:
        model: of transformers, or peft's wrapper of one.
        training: whether it is to be trained as well: dropout of attention weights does not matter in sampling.
    """
    device = next(model.parameters()).device
    if device.type not in ("cpu", "cuda"):
        return f"it runs on {device.type}, and the engine on cpu and cuda"
    if isinstance(model, PeftModel):
        if model.active_peft_config.is_prompt_learning:
            kind = PeftType(model.active_peft_config.peft_type).value
            return f"peft's {kind} adds virtual tokens to every prompt"
        base: Any = model.get_base_model()
    else:
        base = model
    if not isinstance(base, PreTrainedModel):
        return f"{type(base).__name__} is not a model of transformers"
    reason = _configured(base, training)
    if reason is not None:
        return reason
    try:
        return _tried(model, base)
    except torch.OutOfMemoryError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # Heads of two sizes, a forward with other arguments …
        return f"a trial over a packed sequence failed ({type(error).__name__}: {error})"


def _configured(base: PreTrainedModel, training: bool) -> str | None:
    config: Any = base.config.get_text_config()
    if base.config.is_encoder_decoder:
        return f"{type(base).__name__} is an encoder-decoder"
    if config is not base.config:
        return f"{type(base).__name__} is multimodal"
    if not base._supports_attention_backend:
        return f"{type(base).__name__} does not take its attention from transformers' AttentionInterface"
    if "logits_to_keep" not in inspect.signature(base.forward).parameters and not hasattr(
        base.forward, "__wrapped__"
    ):
        return f"the forward of {type(base).__name__} has no logits_to_keep"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    if kinds:
        return f"it has layers of another kind than full attention ({', '.join(sorted(kinds))})"
    window = getattr(config, "sliding_window", None)
    if window is not None and not hasattr(config, "layer_types"):
        return f"its attention is limited to a sliding window of {window} tokens"
    for name in ATTENTION_DROPOUTS:
        if training and getattr(config, name, 0.0):
            return f"it trains with {name}={getattr(config, name)}"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps its attention scores (attn_logit_softcapping)"
    rotary: Any = getattr(config, "rope_parameters", None) or {}
    kind = rotary.get("rope_type", "default")
    if kind not in ROTARY_KINDS:
        return f"its rotary embedding ({kind}) depends on the length of the batch"
    return None


@torch.no_grad()
def _tried(model: nn.Module, base: PreTrainedModel) -> str | None:
    """A few tokens, dense and packed."""
    vocabulary = model.get_input_embeddings().weight.shape[0]  # pyright: ignore
    tokens = [7 * number % vocabulary for number in range(1, 14)]
    groups = [PromptGroup(tokens[:4], [tokens[4:7], tokens[7:9]]), PromptGroup(tokens[9:11], [tokens[11:]])]
    device = next(model.parameters()).device
    # accelerate leaves its mixed precision on a model it has prepared, whose rounding would hide what is looked for here.
    wrapped = {module: module.forward for module in model.modules() if "_original_forward" in vars(module)}
    for module in wrapped:
        module.forward = module._original_forward  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with evaluation_mode(model), engine_attention(model):
            packed = token_logprobs(model, groups).logprobs
        worst = size = 0.0
        rows = iter(packed)
        # Whatever kernel the model was loaded with: some take half precision only.
        with evaluation_mode(model), attention_of(model, "sdpa" if base._supports_sdpa else "eager"):
            for group in groups:
                for completion in group.completions:
                    ids = torch.tensor([[*group.prompt, *completion]], device=device)
                    logits = (
                        model(input_ids=ids, use_cache=False).logits[0, len(group.prompt) - 1 : -1].float()
                    )
                    chosen = ids[0, len(group.prompt) :, None]
                    dense = logits.log_softmax(-1).gather(1, chosen)[:, 0]
                    worst = max(worst, (next(rows)[: len(completion)] - dense).abs().max().item())
                    size = max(size, logits.abs().max().item())
    finally:
        for module, forward in wrapped.items():
            module.forward = forward
    # Rounding is relative to the logits.
    if not worst <= max(1e-4, 4 * torch.finfo(base.dtype).eps) * (1 + size):
        return f"its log-probabilities over a packed sequence differ from a plain forward's by {worst:.2g}"
    return None

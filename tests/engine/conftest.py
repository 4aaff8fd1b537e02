"""Two policies whose distributions are known: one by its table, one by a dense forward."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from maxrl.models import TinyModel, build_tiny

Table = Mapping[int, Mapping[int, float]]

VOCABULARY = 8
NEVER = 1e-30
"""Probability of a token that a table does not name."""


def chain(table: Table) -> Qwen2ForCausalLM:
    """A Qwen2 that is a Markov chain: `table[last][next]` is the probability of the next token.

    Embeddings are unit vectors and attention and feed-forward layers add nothing, so the hidden state names the last
    token; the final norm makes it √V long, which the head divides out: logits = log table[last], exactly.
    """
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=VOCABULARY,
        intermediate_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        rms_norm_eps=0.0,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(VOCABULARY))
        for last in range(VOCABULARY):
            for following in range(VOCABULARY):
                # A token that no row is given for repeats itself.
                p = table.get(last, {last: 1.0}).get(following, NEVER)
                model.lm_head.weight[following, last] = math.log(p) / math.sqrt(VOCABULARY)
    return model.eval()


@pytest.fixture
def make_chain() -> Callable[[Table], Qwen2ForCausalLM]:
    """See `chain`."""
    return chain


@pytest.fixture
def sharp(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A random model with attention that matters and distributions far from uniform."""
    shape = TinyModel(tiny_layers=2, tiny_width=16, tiny_heads=2, tiny_kv_heads=1, tiny_feed_forward=32)
    model = build_tiny(tokenizer, shape, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(20)
    return model.eval()

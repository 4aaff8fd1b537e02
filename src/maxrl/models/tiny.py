"""A small Qwen2 made on the spot, with a tokenizer of a task's own words, or of bytes where it has none.

The model knows nothing until it has been trained on demonstrations: `maxrl.training.warm_starts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from maxrl.errors import InputError

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
"""Ids 0 to 3, in this order."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
"""A chat for models that were never taught one."""


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """Shape of the model that `--model_name_or_path tiny` builds (a Qwen2 with tied embeddings)."""

    tiny_layers: int = field(default=3, metadata={"help": "Transformer layers of the tiny model."})
    tiny_width: int = field(default=128, metadata={"help": "Hidden size of the tiny model."})
    tiny_heads: int = field(
        default=4, metadata={"help": "Attention heads of the tiny model; must divide tiny_width."}
    )
    tiny_kv_heads: int = field(
        default=2, metadata={"help": "Key/value heads of the tiny model; must divide tiny_heads."}
    )
    tiny_feed_forward: int = field(
        default=512, metadata={"help": "Width of the feed-forward layers of the tiny model."}
    )
    tiny_positions: int = field(
        default=512, metadata={"help": "Longest prompt and completion together, in tokens."}
    )
    tiny_rope_theta: float = field(default=10_000.0, metadata={"help": "Base of the rotary positions."})

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"{name} must be at least 1, but is {value}")
        if self.tiny_width % (2 * self.tiny_heads):
            raise InputError(
                f"tiny_width ({self.tiny_width}) must be a multiple of twice tiny_heads ({self.tiny_heads}): "
                "rotary positions need heads of even size"
            )
        if self.tiny_heads % self.tiny_kv_heads:
            raise InputError(
                f"tiny_heads ({self.tiny_heads}) must be a multiple of tiny_kv_heads ({self.tiny_kv_heads})"
            )


def build_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word of `words`, after the four special tokens.

    Texts are split at white space; a prompt is opened by `<bos>`; decoding joins words by single spaces.
    """
    vocabulary = {word: index for index, word in enumerate([*SPECIAL_TOKENS, *words])}
    if len(vocabulary) != len(SPECIAL_TOKENS) + len(words):
        raise InputError("a vocabulary must not name a word twice, nor one of " + ", ".join(SPECIAL_TOKENS))
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    return _opened(backend, vocabulary["<bos>"])


def build_byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per byte of UTF-8, after the four special tokens: for any text whatever.

    A prompt is opened by `<bos>`. It has a plain chat template.
    """
    # The characters that stand for bytes in byte-level tokenizers, in an order that does not depend on the library's.
    vocabulary = {word: index for index, word in enumerate([*SPECIAL_TOKENS, *sorted(ByteLevel.alphabet())])}
    backend = Tokenizer(BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    backend.add_tokens([AddedToken("<bos>", normalized=False)])  # which the chat template spells out
    tokenizer = _opened(backend, vocabulary["<bos>"])
    tokenizer.chat_template = "<bos>" + CHAT_TEMPLATE
    return tokenizer


def _opened(backend: Tokenizer, bos: int) -> PreTrainedTokenizerFast:
    """A tokenizer that opens texts with `<bos>` and pads on the left, with `<eos>`.

    Of the special tokens it knows `<eos>` alone by its role, as only that may vanish from a decoded completion: a `<pad>`,
    `<bos>` or `<unk>` that a model samples stays in its answer, for the verifier to refuse.
    """
    backend.post_processor = TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="<bos> $A", special_tokens=[("<bos>", bos)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<eos>",
        pad_token="<eos>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_tiny(
    tokenizer: PreTrainedTokenizerFast,
    shape: TinyModel | None = None,
    *,
    seed: int = 0,
    stop: Sequence[str] = (),
) -> Qwen2ForCausalLM:
    """A Qwen2 of the given shape with random weights, the same for the same seed, in float32.

    `stop` are words that end a completion as `<eos>` does; they go into its generation configuration.

    The global random state is left as it was.

    Raises:
        InputError: a stop word that the tokenizer does not know.
    """
    shape = shape or TinyModel()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.tiny_width,
        intermediate_size=shape.tiny_feed_forward,
        num_hidden_layers=shape.tiny_layers,
        num_attention_heads=shape.tiny_heads,
        num_key_value_heads=shape.tiny_kv_heads,
        max_position_embeddings=shape.tiny_positions,
        rope_parameters={"rope_type": "default", "rope_theta": shape.tiny_rope_theta},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.convert_tokens_to_ids("<bos>"),
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach every device's generator
        model = Qwen2ForCausalLM(config)
        # <eos>, which pads, is a token like others all the same: neither without weights nor without their gradient.
        model.model.embed_tokens.padding_idx = None
        with torch.no_grad():
            model.model.embed_tokens.weight[config.pad_token_id].normal_(std=config.initializer_range)
    vocabulary = tokenizer.get_vocab()
    if unknown := [word for word in stop if word not in vocabulary]:
        raise InputError(f"stop words must be in the vocabulary, but {', '.join(unknown)} is not")
    ends = [tokenizer.eos_token_id, *(vocabulary[word] for word in stop)]
    model.generation_config.eos_token_id = ends if stop else tokenizer.eos_token_id
    return model

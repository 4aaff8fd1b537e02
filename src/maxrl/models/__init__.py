"""Policies and tokenizers: small ones made on the spot, or loaded from a folder or the Hugging Face Hub."""

from maxrl.models.loading import load_policy, load_tokenizer
from maxrl.models.text import decode_completion, encode_prompt
from maxrl.models.tiny import TinyModel, build_byte_tokenizer, build_tiny, build_tokenizer

__all__ = [
    "TinyModel",
    "build_byte_tokenizer",
    "build_tiny",
    "build_tokenizer",
    "decode_completion",
    "encode_prompt",
    "load_policy",
    "load_tokenizer",
]

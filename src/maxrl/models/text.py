"""From prompts to token ids and back: the only place where text meets a tokenizer outside the trainer."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from maxrl.errors import InputError


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | list[dict[str, str]]) -> list[int]:
    """Token ids of a prompt, as TRL's trainers make them.

    Args:
        tokenizer: of the policy that will continue the prompt.
        prompt: plain text, or chat messages `[{"role": …, "content": …}]`, to which the tokenizer's chat
            template and the opening of the answer are applied.

    Raises:
        InputError: chat messages for a tokenizer that has no chat template.
    """
    if isinstance(prompt, str):
        return list(tokenizer(text=prompt)["input_ids"])
    if tokenizer.chat_template is None:
        raise InputError(
            "the prompt is a chat, but the tokenizer has no chat template; use an instruct model, or the task's "
            "plain-text prompt format (for subset_sum: prompt_format=compact)"
        )
    encoded = tokenizer.apply_chat_template(
        prompt, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(encoded["input_ids"])


def decode_completion(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Text of a completion, without special tokens, as the verifier sees it."""
    return tokenizer.decode(list(ids), skip_special_tokens=True)

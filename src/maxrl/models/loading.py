"""Load a policy and its tokenizer from a folder or the Hugging Face Hub, or say plainly why not."""

import json
from pathlib import Path
from typing import Any

from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from maxrl.errors import InputError


def load_tokenizer(
    name_or_path: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or Hub id, padding on the left as generation needs.

    A folder whose tokenizer was saved as a plain `tokenizer.json` gets exactly that. transformers' `AutoTokenizer`
    overrides it for some architectures (Qwen2 among them) by the tokenizer their original authors used, which
    splits the words of a tokenizer of one's own into digits and letters, without a warning.

    Raises:
        InputError: the folder holds no model, or the Hub cannot be reached or does not know the id.
    """
    _check_folder(name_or_path)
    try:
        if has_own_tokenizer(name_or_path):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(name_or_path, padding_side="left")
        else:
            tokenizer = AutoTokenizer.from_pretrained(
                name_or_path, revision=revision, trust_remote_code=trust_remote_code, padding_side="left"
            )
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_load(name_or_path, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # Some architectures get a tokenizer without a single word where a folder holds none.
        raise InputError(
            f"{name_or_path} holds a model but no tokenizer; save the model's own tokenizer into the same folder "
            "(tokenizer.save_pretrained)"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(name_or_path: str, **model_kwargs: Any) -> PreTrainedModel | PeftModel:
    """A causal language model from a folder or Hub id, in evaluation mode.

    A folder that holds a LoRA adapter gives the adapter on top of its base model, ready to be trained on.

    Args:
        name_or_path: folder written by `save_pretrained`, or Hub id such as `Qwen/Qwen2.5-0.5B-Instruct`.
        model_kwargs: passed to `AutoModelForCausalLM.from_pretrained` (`dtype`, `revision` …).

    Raises:
        InputError: the folder holds no model, or the Hub cannot be reached or does not know the id.
    """
    _check_folder(name_or_path)
    try:
        if (Path(name_or_path) / "adapter_config.json").is_file():
            model = AutoPeftModelForCausalLM.from_pretrained(name_or_path, is_trainable=True, **model_kwargs)
        else:
            model = AutoModelForCausalLM.from_pretrained(name_or_path, **model_kwargs)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise _cannot_load(name_or_path, error) from error
    return model.eval()


def is_folder(name_or_path: str) -> bool:
    """Whether the name is meant as a folder: it exists, or it cannot be a Hub id."""
    path = Path(name_or_path)
    return path.exists() or path.is_absolute() or name_or_path.startswith((".", "~")) or len(path.parts) > 2


def has_own_tokenizer(name_or_path: str) -> bool:
    """Whether a folder's tokenizer is a plain `tokenizer.json`, no architecture's own and no processor of images."""
    folder = Path(name_or_path)
    config = folder / "tokenizer_config.json"
    if not (folder / "tokenizer.json").is_file() or not config.is_file():
        return False
    if any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")):
        return False
    generic = {"TokenizersBackend", "PreTrainedTokenizerFast"}
    return json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class") in generic


def _check_folder(name_or_path: str) -> None:
    if not is_folder(name_or_path):
        return
    folder = Path(name_or_path)
    if not folder.is_dir():
        raise InputError(
            f"model folder {name_or_path} does not exist; give a folder written by save_pretrained"
        )
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise InputError(
            f"folder {name_or_path} is no model: it has neither config.json nor adapter_config.json; give a folder "
            "written by save_pretrained (a run's own is its output_dir, or one of its checkpoint-… folders)"
        )


def _cannot_load(name_or_path: str, error: Exception) -> InputError:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if is_folder(name_or_path):
        return InputError(f"cannot load the model in {name_or_path}: {first_line}")
    return InputError(
        f"cannot load the model '{name_or_path}' from the Hugging Face Hub: {first_line} What to do: check the name; "
        f"on a machine without network, download it elsewhere (`hf download {name_or_path} --local-dir FOLDER`) and "
        "pass that folder; or use `tiny`, a small model made on the spot"
    )

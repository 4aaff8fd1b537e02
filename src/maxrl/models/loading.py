"""Load a policy and its tokenizer from a folder or the Hugging Face Hub, or say plainly why not."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from maxrl.errors import InputError


def load_tokenizer(
    name_or_path: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or Hub id, padding on the left as generation needs.

    Raises:
        InputError: the folder holds no model, or the Hub cannot be reached or does not know the id.
    """
    _check_folder(name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name_or_path, revision=revision, trust_remote_code=trust_remote_code, padding_side="left"
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(name_or_path, error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(name_or_path: str, **model_kwargs: Any) -> PreTrainedModel:
    """A causal language model from a folder or Hub id, in evaluation mode.

    A folder that holds a LoRA adapter is loaded on top of its base model.

    Args:
        name_or_path: folder written by `save_pretrained`, or Hub id such as `Qwen/Qwen2.5-0.5B-Instruct`.
        model_kwargs: passed to `AutoModelForCausalLM.from_pretrained` (`dtype`, `revision` …).

    Raises:
        InputError: the folder holds no model, or the Hub cannot be reached or does not know the id.
    """
    _check_folder(name_or_path)
    try:
        model = AutoModelForCausalLM.from_pretrained(name_or_path, **model_kwargs)
    except (OSError, ValueError) as error:
        raise _cannot_load(name_or_path, error) from error
    return model.eval()


def is_folder(name_or_path: str) -> bool:
    """Whether the name is meant as a folder: it exists, or it cannot be a Hub id."""
    path = Path(name_or_path)
    return path.exists() or path.is_absolute() or name_or_path.startswith((".", "~")) or len(path.parts) > 2


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

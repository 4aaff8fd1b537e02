"""Policies and tokenizers from folders, and what is said where there are none."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, Qwen2ForCausalLM

from maxrl.errors import InputError
from maxrl.models import TinyModel, build_tiny, build_tokenizer, load_policy, load_tokenizer
from maxrl.tasks import SubsetSum

LOADERS = [load_policy, load_tokenizer]
IDS = torch.tensor([[1, 4, 5, 8, 6]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def test_a_policy_comes_back_as_it_was_saved(policy_folder: Path, model: Qwen2ForCausalLM) -> None:
    loaded = load_policy(str(policy_folder))
    assert torch.equal(logits(loaded), logits(model))
    assert not loaded.training


def test_options_reach_transformers(policy_folder: Path) -> None:
    assert load_policy(str(policy_folder), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_an_adapter_is_loaded_on_top_of_its_base(tmp_path: Path, policy_folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lora = LoraConfig(r=2, lora_alpha=64, target_modules=["q_proj"], init_lora_weights=False)
        adapted = get_peft_model(load_policy(str(policy_folder)), lora)
    folder = tmp_path / "adapter"
    adapted.save_pretrained(str(folder))
    assert not (folder / "config.json").exists()

    loaded = load_policy(str(folder))
    torch.testing.assert_close(logits(loaded), logits(adapted))
    assert not torch.allclose(logits(loaded), logits(load_policy(str(policy_folder))))
    assert not loaded.training


@pytest.fixture(scope="module")
def two_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy whose task has numbers of two digits."""
    vocabulary = SubsetSum(num_elements=6, max_value=20, prompt_format="compact").vocabulary()
    assert vocabulary is not None
    words = build_tokenizer(vocabulary.words)
    shape = TinyModel(tiny_layers=1, tiny_width=8, tiny_heads=2, tiny_kv_heads=1, tiny_feed_forward=8)
    folder = tmp_path_factory.mktemp("two") / "policy"
    build_tiny(words, shape).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_a_tokenizer_of_ones_own_comes_back_as_it_was_saved(two_digits: Path) -> None:
    vocabulary = SubsetSum(num_elements=6, max_value=20, prompt_format="compact").vocabulary()
    assert vocabulary is not None
    saved = build_tokenizer(vocabulary.words)
    loaded = load_tokenizer(str(two_digits))
    text = "12 3 20 7 1 1 = 24 :"
    ids = loaded(text=text)["input_ids"]
    assert ids == saved(text=text)["input_ids"]
    assert len(ids) == 1 + 9  # <bos>, and one id per word: 12 is not 1 and 2
    assert loaded.decode(ids) == f"<bos> {text}"
    assert loaded.get_vocab() == saved.get_vocab()
    assert (loaded.pad_token, loaded.eos_token, loaded.padding_side) == ("<eos>", "<eos>", "left")


def test_the_trap_that_load_tokenizer_avoids_is_still_there(two_digits: Path) -> None:
    # Where this fails, transformers has mended itself and `_saved_as_is` in loading.py can go.
    theirs = AutoTokenizer.from_pretrained(two_digits)
    text = "12 3 20 7 1 1 = 24 :"
    assert theirs.decode(theirs(text=text)["input_ids"], skip_special_tokens=True) != text


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("name", ["./missing", "/nowhere/at/all", "a/b/c"])
def test_a_missing_folder_is_named(load: Callable[[str], Any], name: str) -> None:
    with pytest.raises(InputError) as caught:
        load(name)
    assert str(caught.value) == (
        f"model folder {name} does not exist; give a folder written by save_pretrained"
    )


@pytest.mark.parametrize("load", LOADERS)
def test_a_folder_that_is_no_model_is_refused(load: Callable[[str], Any], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(InputError, match=rf"folder {tmp_path} is no model: it has neither config.json nor"):
        load(str(tmp_path))


@pytest.mark.parametrize("load", LOADERS)
def test_an_id_out_of_reach_gets_one_line_with_the_remedies(
    load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError) as caught:
        load("nobody/has-such-a-model")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("cannot load the model 'nobody/has-such-a-model' from the Hugging Face Hub: ")
    assert "hf download nobody/has-such-a-model --local-dir FOLDER" in message
    assert "`tiny`" in message


@pytest.mark.parametrize(
    ("load", "broken"),
    [
        (load_policy, "config.json"),
        (load_policy, "model.safetensors"),
        (load_tokenizer, "tokenizer.json"),
        (load_tokenizer, "tokenizer_config.json"),
    ],
)
def test_a_half_written_file_is_an_error_of_one_line(
    load: Callable[[str], Any], broken: str, policy_folder: Path
) -> None:
    whole = (policy_folder / broken).read_bytes()
    (policy_folder / broken).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"cannot load the model in {policy_folder}: ") as caught:
        load(str(policy_folder))
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_an_error_of_one_line(policy_folder: Path) -> None:
    (policy_folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=f"cannot load the model in {policy_folder}: ") as caught:
        load_policy(str(policy_folder))
    assert "\n" not in str(caught.value)


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path, policy_folder: Path) -> None:
    # transformers would make a Qwen2 tokenizer that knows no word.
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(policy_folder / name, folder)
    with pytest.raises(InputError, match=rf"{folder} holds a model but no tokenizer"):
        load_tokenizer(str(folder))


def test_a_tokenizer_without_padding_pads_with_the_end_of_text(policy_folder: Path) -> None:
    bare = build_tokenizer(["1"])
    bare.pad_token = None
    bare.save_pretrained(policy_folder)
    loaded = load_tokenizer(str(policy_folder))
    assert loaded.pad_token == loaded.eos_token == "<eos>"

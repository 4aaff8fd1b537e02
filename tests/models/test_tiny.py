"""The tokenizer and the model made on the spot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from maxrl.errors import InputError
from maxrl.models import TinyModel, build_byte_tokenizer, build_tiny, build_tokenizer

WORDS = ("1", "2", "12", ":")


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return build_tokenizer(WORDS)


def test_specials_come_first_and_words_follow_in_their_order(words: PreTrainedTokenizerFast) -> None:
    assert words.get_vocab() == {
        "<pad>": 0,
        "<bos>": 1,
        "<eos>": 2,
        "<unk>": 3,
        "1": 4,
        "2": 5,
        "12": 6,
        ":": 7,
    }
    assert (words.pad_token_id, words.eos_token_id) == (2, 2)
    assert len(words) == 8


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("1 2 12 :", [1, 4, 5, 6, 7]),
        ("12  1\n:", [1, 6, 4, 7]),  # any white space splits
        ("1 21 1:", [1, 4, 3, 3]),  # words are whole: 21 is not 2 and 1, 1: is not 1 and :
        ("", [1]),
    ],
)
def test_a_text_is_opened_and_becomes_one_id_per_word(
    words: PreTrainedTokenizerFast, text: str, ids: list[int]
) -> None:
    assert words(text=text)["input_ids"] == ids
    assert words(text=text, add_special_tokens=False)["input_ids"] == ids[1:]


def test_decoding_joins_words_by_single_spaces(words: PreTrainedTokenizerFast) -> None:
    ids = [4, 7, 6, 2]
    assert words.decode(ids, skip_special_tokens=True) == "1 : 12"
    assert words.decode(ids) == "1 : 12 <eos>"


@pytest.mark.parametrize("special", ["<pad>", "<bos>", "<unk>"])
@pytest.mark.parametrize("saved", [False, True], ids=["made", "saved"])
@pytest.mark.parametrize("build", [lambda: build_tokenizer(WORDS), build_byte_tokenizer])
def test_of_the_special_tokens_only_the_end_vanishes_from_an_answer(
    build: Callable[[], PreTrainedTokenizerFast], saved: bool, special: str, tmp_path: Path
) -> None:
    tokenizer = build()
    if saved:
        tokenizer.save_pretrained(tmp_path)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    one, two = (tokenizer.convert_tokens_to_ids(word) for word in "12")
    ids = [one, tokenizer.convert_tokens_to_ids(special), two, tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == f"1{special}2"


def test_padding_is_on_the_left(words: PreTrainedTokenizerFast) -> None:
    batch = words(text=["1 2", ":"], padding=True)
    assert batch["input_ids"] == [[1, 4, 5], [2, 1, 7]]
    assert batch["attention_mask"] == [[1, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize("wrong", [["1", "2", "1"], ["1", "<eos>"]])
def test_a_word_named_twice_is_refused(wrong: list[str]) -> None:
    with pytest.raises(InputError, match="must not name a word twice, nor one of <pad>, <bos>, <eos>, <unk>"):
        build_tokenizer(wrong)


def test_the_shape_is_the_one_asked_for(words: PreTrainedTokenizerFast) -> None:
    shape = TinyModel(
        tiny_layers=2,
        tiny_width=24,
        tiny_heads=4,
        tiny_kv_heads=2,
        tiny_feed_forward=40,
        tiny_positions=64,
    )
    model = build_tiny(words, shape)
    # Width 24 in 4 heads of 6; 2 key/value heads are 12 wide.
    #   embeddings, which are also the head:                    8·24 =  192
    #   q 24·24+24, k and v 2·(24·12+12), o 24·24:   600+600+576     = 1776  per layer
    #   gate, up and down 3·24·40, two norms 2·24:   2880+48         = 2928  per layer
    #   last norm:                                                       24
    assert sum(parameter.numel() for parameter in model.parameters()) == 192 + 2 * (1776 + 2928) + 24
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.max_position_embeddings == 64
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (2, 1, 2)


def test_the_end_of_text_has_weights_like_other_tokens(words: PreTrainedTokenizerFast) -> None:
    model = build_tiny(words, TinyModel(tiny_layers=1, tiny_width=32))
    sizes = model.model.embed_tokens.weight.detach().norm(dim=1)
    assert sizes.min() > 0.5 * sizes.mean()
    model(torch.tensor([[2, 4]])).logits[0, 1, 5].backward()
    # Read as an input, apart from the head, which has its own part in the gradient of every row.
    assert model.model.embed_tokens.weight.grad[2].abs().sum() > 0


def test_a_stop_word_must_be_a_word(words: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="stop words must be in the vocabulary, but DONE is not"):
        build_tiny(
            words, TinyModel(tiny_layers=1, tiny_width=8, tiny_heads=2, tiny_kv_heads=1), stop=["DONE"]
        )


def test_weights_depend_on_the_seed_alone(words: PreTrainedTokenizerFast) -> None:
    shape = TinyModel(tiny_layers=1, tiny_width=8, tiny_heads=2, tiny_kv_heads=1, tiny_feed_forward=8)

    def weights(seed: int, outer: int) -> torch.Tensor:
        torch.manual_seed(outer)
        return torch.cat([p.detach().flatten() for p in build_tiny(words, shape, seed=seed).parameters()])

    assert torch.equal(weights(1, outer=1), weights(1, outer=2))
    assert not torch.equal(weights(1, outer=1), weights(2, outer=1))


def test_the_global_random_state_is_left_alone(
    words: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(seed: int) -> None:
        raise AssertionError("the generators of devices that hold no part of the model were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", reached)
    before = torch.get_rng_state()
    build_tiny(words, TinyModel(tiny_layers=1, tiny_width=8, tiny_heads=2, tiny_kv_heads=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tiny_layers": 0}, "tiny_layers must be at least 1, but is 0"),
        ({"tiny_positions": -1}, "tiny_positions must be at least 1, but is -1"),
        ({"tiny_width": 30}, r"tiny_width \(30\) must be a multiple of twice tiny_heads \(4\)"),
        # 12 is a multiple of 4, but heads of size 3 have no halves to rotate.
        ({"tiny_width": 12}, r"tiny_width \(12\) must be a multiple of twice tiny_heads \(4\)"),
        ({"tiny_kv_heads": 3}, r"tiny_heads \(4\) must be a multiple of tiny_kv_heads \(3\)"),
        ({"tiny_kv_heads": 8}, r"tiny_heads \(4\) must be a multiple of tiny_kv_heads \(8\)"),
    ],
)
def test_shapes_that_cannot_be_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TinyModel(**wrong)


@pytest.mark.parametrize("text", ["", "plain", "  two  blanks \n\t", "ü ≠ 日本 🎉", "\x00\x7f", "<pad>"[:-1]])
def test_a_byte_tokenizer_takes_any_text_and_gives_it_back(text: str) -> None:
    tokenizer = build_byte_tokenizer()
    ids = tokenizer(text=text)["input_ids"]
    assert ids[0] == 1
    assert len(ids) == 1 + len(text.encode())
    assert tokenizer.decode(ids[1:], skip_special_tokens=True) == text


def test_bytes_are_a_fixed_set_after_the_special_tokens() -> None:
    vocabulary = build_byte_tokenizer().get_vocab()
    assert len(vocabulary) == 4 + 256
    assert sorted(vocabulary.values()) == list(range(260))
    assert vocabulary == build_byte_tokenizer().get_vocab()
    assert vocabulary["a"] - vocabulary["A"] == ord("a") - ord("A")


def test_bytes_that_are_no_text_decode_to_something() -> None:
    tokenizer = build_byte_tokenizer()
    first_of_two = tokenizer(text="ü", add_special_tokens=False)["input_ids"][:1]
    assert tokenizer.decode(first_of_two) == "\ufffd"


def test_the_base_of_the_rotary_positions_is_a_choice(words: PreTrainedTokenizerFast) -> None:
    assert build_tiny(words).config.rope_parameters["rope_theta"] == 10_000.0
    shape = TinyModel(tiny_rope_theta=1e6)
    assert build_tiny(words, shape).config.rope_parameters["rope_theta"] == 1e6
    slowest = [build_tiny(words, one).model.rotary_emb.inv_freq[-1].item() for one in (TinyModel(), shape)]
    assert slowest[1] < slowest[0] / 50

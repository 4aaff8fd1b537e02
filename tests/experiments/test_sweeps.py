"""What `--sweep` and `--n` understand, and what they answer to the rest."""

import pytest

from maxrl.errors import InputError
from maxrl.experiments.sweeps import parse_sweep, settings_of, split_values


def test_ranges_lists_and_types() -> None:
    swept = parse_sweep(
        ["num_elements=4:10:3", "max_value=10,20:22, 50", "prompt-format=chat,compact"], "subset_sum"
    )
    assert swept == {
        "num_elements": [4, 7, 10],
        "max_value": [10, 20, 21, 22, 50],
        "prompt_format": ["chat", "compact"],
    }


def test_the_product_of_the_fields() -> None:
    assert settings_of({"a": [1, 2], "b": [5, 6]}) == [
        {"a": 1, "b": 5}, {"a": 1, "b": 6}, {"a": 2, "b": 5}, {"a": 2, "b": 6},
    ]  # fmt: skip
    assert settings_of({}) == [{}]


@pytest.mark.parametrize(
    ("text", "values"),
    [("7", "7"), ("4:6", "4 5 6"), ("4:4", "4"), ("4:9:2", "4 6 8"), ("-1:1", "-1 0 1"), (" 1 , 2 ", "1 2")],
)
def test_values(text: str, values: str) -> None:
    assert split_values(text, "x") == values.split()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["num_elements"],
            "--sweep takes field=values, as num_elements=4:10 or max_value=10,20,50, but got 'num_elements'",
        ),
        (["=3"], "--sweep takes field=values"),
        (
            ["num_element=3"],
            "unknown field of task subset_sum to sweep 'num_element'; did you mean 'num_elements'?",
        ),
        (["learning_rate=1"], "unknown field of task subset_sum to sweep 'learning_rate'"),
        (["num_elements="], "--sweep num_elements= lacks a value"),
        (["num_elements=3,,4"], "lacks a value"),
        (["num_elements=10:4"], "'10:4' is an empty range; write the smaller number first"),
        (["num_elements=4:10:0"], "a step above 0"),
        (["num_elements=4:10:-1"], "a step above 0"),
        (["num_elements=4:"], "'4:' is no range; write a:b or a:b:step with whole numbers"),
        (["num_elements=1:2:3:4"], "is no range"),
        (["num_elements=0.5:2"], "is no range"),
        (["num_elements=many"], "invalid int value: 'many'"),
        (["num_elements=4,5,4:5"], "--sweep num_elements=4,5,4:5 names a value twice"),
        (["num_elements=4", "num_elements=5"], "--sweep names num_elements twice"),
        (["prompt_format=verse"], "invalid choice: 'verse'"),
    ],
)
def test_what_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_sweep(words, "subset_sum")
    assert says in str(caught.value)

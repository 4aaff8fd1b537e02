"""The page on TRL's options is what both parsers say now, and says why where they differ."""

from importlib.metadata import version
from pathlib import Path

from maxrl.experiments import trl_options
from maxrl.experiments.fields import recipe_parser

PAGE = Path(__file__).parents[2] / "docs" / "trl-options.md"


def test_the_page_is_of_both_parsers_as_they_are() -> None:
    written = trl_options.page(".".join(version("trl").split(".")[:2]))
    assert PAGE.read_text() == written, "python -m maxrl.experiments.trl_options > docs/trl-options.md"


def test_every_option_of_trl_is_taken_and_every_difference_explained() -> None:
    theirs = {a.dest: a.default for a in trl_options.make_parser()._actions if a.option_strings}
    ours = {a.dest: a.default for a in recipe_parser()._actions if a.option_strings}
    assert set(theirs) <= set(ours)
    assert {name for name in theirs if theirs[name] != ours[name]} == set(trl_options.WHY)
    assert set(trl_options.REFUSED) <= set(theirs)

"""The page on what `trl grpo` and `maxrl train` accept, option by option, from both parsers.

python -m maxrl.experiments.trl_options > docs/trl-options.md
"""

import argparse
from collections.abc import Mapping
from importlib.metadata import version as installed_version

from trl.scripts.grpo import make_parser

from maxrl.experiments.fields import recipe_parser
from maxrl.experiments.wording import plain

WHY = {
    "loss_type": "`dr_grpo` divides by a constant, so that the gradient is the estimator's up to a factor; `dapo` divides "
    "by the tokens of the batch ([aggregation](aggregation.md)). All of TRL's are accepted, and `rollout_sum`.",
    "scale_rewards": "The estimator decides what divides: `advantage_estimator=grpo` is TRL's `group`, `dr_grpo` its "
    "`none`. A value that contradicts the estimator is refused.",
}
"""Every option whose default differs, and why. A test holds this complete."""

REFUSED = {
    "multi_objective_aggregation": "`normalize_then_sum` divides each reward by its own deviation before the estimator "
    "sees it",
    "num_generations": "below 2 there is no baseline, and no signal",
    "hub_token": "a token in a recipe would be written into every record of the run; `HF_TOKEN` is read instead",
}
"""Values that TRL takes and we refuse."""

HEAD = """\
# TRL's options

`maxrl train` takes every option of `trl grpo` (TRL {version}) under the same name, on the command line and in a recipe:
{both} of them, {same} with the same default. This page is made from both parsers
(`python -m maxrl.experiments.trl_options`).
"""


def page(version: str) -> str:
    """The page in Markdown.

    Args:
        version: of TRL, as the page names it.
    """
    theirs, ours = _defaults(make_parser()), _defaults(recipe_parser())
    both = [name for name in theirs if name in ours]
    differing = [name for name in both if theirs[name] != ours[name]]
    rows = [f"| `{n}` | {_cell(theirs[n])} | {_cell(ours[n])} | {WHY.get(n, '')} |" for n in differing]
    missing = [f"| `{name}` | {_cell(theirs[name])} |" for name in theirs if name not in ours]
    return "\n".join(
        [
            HEAD.format(version=version, both=len(both), same=len(both) - len(differing)),
            *_table("Other defaults", "| option | `trl grpo` | `maxrl train` | why |", rows),
            *_table(
                "Values that are refused",
                "| option | why |",
                [f"| `{n}` | {why} |" for n, why in REFUSED.items()],
            ),
            *_table("Only in `trl grpo`", "| option | default |", missing),
            *_table(
                "Only in `maxrl train`",
                "| option | default |",
                [f"| `{name}` | {_cell(ours[name])} |" for name in ours if name not in theirs],
            ),
            *_table(
                "The same in both",
                "| option | default |",
                [f"| `{name}` | {_cell(theirs[name])} |" for name in both if name not in differing],
            ),
        ]
    )


def _defaults(parser: argparse.ArgumentParser) -> Mapping[str, object]:
    return {
        action.dest: action.default
        for action in parser._actions
        if action.option_strings and action.dest != "help"
    }


def _table(title: str, head: str, rows: list[str]) -> list[str]:
    if not rows:
        return [f"## {title}", "", "None.", ""]
    return [f"## {title}", "", head, "| :-- " * (head.count("|") - 1) + "|", *rows, ""]


def _cell(value: object) -> str:
    shown = getattr(value, "value", value)
    return "" if shown is None else f"`{plain(shown)}`".replace("|", "\\|")


if __name__ == "__main__":
    print(page(".".join(installed_version("trl").split(".")[:2])), end="")

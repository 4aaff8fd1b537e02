"""One subset-sum experiment, as notebooks/max_rl.py makes it: its options, the fields of its recipe, the run.

The options are those of the MaxRL-vs-GRPO benchmark this project started from. They only fill in a recipe; what trains is
`train_run`, as everywhere.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from maxrl.errors import InputError
from maxrl.experiments.environment import settle_threads
from maxrl.experiments.fields import read_fields
from maxrl.experiments.folders import clear_folder, differing_fields
from maxrl.experiments.grids.work import make_run
from maxrl.experiments.notebooks.flags import ScriptParser
from maxrl.experiments.recipe import Fields, folder_name, make_recipe
from maxrl.experiments.store import StoredRun
from maxrl.experiments.store.metrics_file import read_metrics
from maxrl.experiments.workers import Job, run_jobs
from maxrl.objectives import ESTIMATORS

STEPS_PER_EPOCH = 10
"""The benchmark's."""

ALPHA_OF_RANK = 2
"""LoRA's α for each unit of its rank: the benchmark's 16 at rank 8, so that the adapter's scale stays as the rank varies."""


BATCH_SIZES = range(1, 33)
GROUP_SIZES = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
LEARNING_RATES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
ELEMENTS = range(4, 13)
TEMPERATURES = tuple(tenths / 10 for tenths in range(1, 16))
"""What widgets offer; a command line may ask for more."""


@dataclass(frozen=True, kw_only=True)
class SingleRun:
    """What was chosen; None leaves a value to the recipe, which has others for the tiny model."""

    model_id: str = "Qwen/Qwen2.5-0.5B-Instruct"
    advantage_method: str = "maxrl"
    batch_size: int = 4
    """Problems a step."""
    group_size: int = 16
    """Rollouts of each."""
    epochs: int | None = None
    steps_per_epoch: int = STEPS_PER_EPOCH
    learning_rate: float | None = None
    num_elements: int = 6
    max_value: int = 20
    temperature: float = 0.8
    """Of the samples that are trained on, of the policy that is trained, and of the samples of the evaluation."""
    lora_rank: int | None = None
    wandb_run_name: str | None = None
    wandb_project: str = "maxrl-subset-sum"
    output_dir: Path | None = None
    seed: int = 42
    eval_problems: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 1),
            ("group_size", 2),
            ("epochs", 1),
            ("steps_per_epoch", 1),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}, but is {value}")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature must be above 0 and finite, but is {self.temperature:g}")
        if self.lora_rank is not None and self.model_id == "tiny":
            raise InputError("the tiny model is trained whole, without an adapter: leave out lora_rank")


HELP = {
    "model_id": "a model of the Hugging Face Hub, a folder, or 'tiny': a small one made on the spot, for a laptop",
    "advantage_method": f"the advantage estimator: {', '.join(ESTIMATORS)}; with options as in 'maxrl(order=4)'",
    "batch_size": "problems a step; the benchmark's widget goes from 1 to 32",
    "group_size": "N, the rollouts of each problem: MaxRL's weight reaches order N − 1, so that 2 is plain RL",
    "epochs": "by default 20, and 2 for the tiny model",
    "steps_per_epoch": "an epoch is no pass over data, whose problems never end, but so many steps",
    "learning_rate": "by default 1e-5, and 3e-4 for the tiny model",
    "num_elements": "numbers that a problem lists",
    "max_value": "the largest of them",
    "temperature": "sampled and trained at alike: a gradient of one policy on samples of another would be biased",
    "lora_rank": f"rank of the adapter, by default 8, with α = {ALPHA_OF_RANK} × rank; the tiny model has none",
    "wandb_run_name": "log to Weights & Biases under this name; without it nothing leaves this machine",
    "wandb_project": "its project there",
    "output_dir": "where the run goes; by default runs/max_rl/ and its settings",
    "seed": "of problems, samples and training",
    "eval_problems": "problems of the evaluations before and after, by default 50",
}

EXAMPLES = """\
examples:
  python notebooks/max_rl.py -- --model-id tiny
  python notebooks/max_rl.py -- --advantage-method grpo --group-size 32 --epochs 20
  marimo edit notebooks/max_rl.py        the same with widgets

A run that is done is shown again, not made again; one that was interrupted goes on. --overwrite makes it anew."""


def parse_single_run(argv: Sequence[str]) -> tuple[SingleRun, bool]:
    """What a command line asks for, and whether to make a run anew that is done.

    Raises:
        InputError: an unknown option, or a value out of range.
        SystemExit: `--help`, after it was printed.
    """
    parser = ScriptParser(
        prog="max_rl.py",
        description="Train one model on subset-sum with one advantage estimator; success before, while and after.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    types = {"model_id": str, "advantage_method": str, "learning_rate": float, "temperature": float}
    types |= {"wandb_run_name": str, "wandb_project": str, "output_dir": Path}
    for item in fields(SingleRun):
        default = "" if item.default is None else f" (default {item.default})"
        parser.add_argument(
            f"--{item.name.replace('_', '-')}",
            type=types.get(item.name, int),
            default=item.default,
            metavar={Path: "DIR", str: "NAME", float: "X"}.get(types.get(item.name, int), "N"),
            help=f"{HELP[item.name]}{default}".replace("%", "%%"),
        )
    parser.add_argument("--overwrite", action="store_true", help="make a run anew that is there")
    chosen = vars(parser.parse_args([word for word in argv if word != "--"]))
    overwrite = chosen.pop("overwrite")
    return SingleRun(**chosen), overwrite


def single_run_fields(chosen: SingleRun, recipe: Path) -> Fields:
    """The fields of the run: the recipe's, and what was chosen over them.

    Args:
        chosen: the options.
        recipe: recipes/subset_sum_qwen.yaml.

    Raises:
        InputError: the recipe is not there, or a value is refused.
    """
    if not recipe.is_file():
        raise InputError(
            f"{recipe} is missing: max_rl.py takes its settings from the recipes of the clone that it lies in; run it in a "
            "clone of maxrl's repository, as notebooks/max_rl.py"
        )
    words: dict[str, object] = {
        "config": recipe,
        "model_name_or_path": chosen.model_id,
        "advantage_estimator": chosen.advantage_method,
        "num_generations": chosen.group_size,
        "per_device_train_batch_size": chosen.batch_size * chosen.group_size,
        "num_elements": chosen.num_elements,
        "max_value": chosen.max_value,
        "temperature": chosen.temperature,
        "eval_temperature": chosen.temperature,
        "seed": chosen.seed,
    }
    if chosen.lora_rank is not None:
        words |= {"lora_r": chosen.lora_rank, "lora_alpha": ALPHA_OF_RANK * chosen.lora_rank}
    for name in ("learning_rate", "eval_problems"):
        if getattr(chosen, name) is not None:
            words[name] = getattr(chosen, name)
    if chosen.wandb_run_name:
        words |= {"report_to": "wandb", "run_name": chosen.wandb_run_name, "project": chosen.wandb_project}
    given = read_fields([f"--{name}={value}" for name, value in words.items()])
    epochs = given["max_steps"] // STEPS_PER_EPOCH if chosen.epochs is None else chosen.epochs
    given["max_steps"] = epochs * chosen.steps_per_epoch
    given["output_dir"] = str(chosen.output_dir or Path("runs") / "max_rl" / run_name(chosen, given))
    make_recipe(given)  # refuses what cannot be, before anything starts
    return given


def chosen_in_widgets(asked: SingleRun, values: Mapping[str, Any]) -> SingleRun:
    """What the widgets say, over what the command line said; 0 epochs and rank 0, or none, leave these to the recipe.

    Raises:
        InputError: the box of the seed was emptied, another holds a fraction, or a value is out of range.
    """
    if values.get("seed", asked.seed) is None:
        raise InputError("seed is empty: give a whole number from 0")
    for name in ("epochs", "lora_rank", "seed"):
        if not float(values.get(name) or 0).is_integer():
            raise InputError(f"{name} must be a whole number, but is {values[name]}")
    left_open = {name: values[name] or None for name in ("epochs", "lora_rank")}
    return replace(asked, **{**values, **left_open, "model_id": values["model_id"].strip()})


def in_words(chosen: SingleRun, given: Fields) -> str:
    """The run in two sentences of Markdown."""
    steps, spe = given["max_steps"], chosen.steps_per_epoch
    groups = f"{chosen.batch_size} problems × {chosen.group_size} rollouts = {chosen.batch_size * chosen.group_size}"
    adapter = f", LoRA rank {given['lora_r']}, α {given['lora_alpha']}" if given.get("use_peft") else ""
    epochs = f"{steps / spe:g} epoch{'' if steps == spe else 's'} of {spe}"
    return (
        f"**{steps} steps** ({epochs}), each {groups} rollouts; learning rate {given['learning_rate']:g}{adapter}. "
        f"Into `{given['output_dir']}`."
    )


class Progress:
    """Tells a progress bar how far a run is, from steps that are counted from the start.

    Args:
        update: of the bar, called with `increment` and `subtitle`.
    """

    def __init__(self, update: Callable[..., object]) -> None:
        self._update = update
        self._step = 0

    def __call__(self, step: int, success_rate: float | None) -> None:
        if step > self._step and success_rate is not None:
            self._update(
                increment=step - self._step, subtitle=f"step {step}, success rate {success_rate:.3f}"
            )
            self._step = step


def run_name(chosen: SingleRun, given: Fields) -> str:
    """`{model}-{method}-n{num_elements}-bs{batch_size}-gs{group_size}`, and a checksum of all settings."""
    model = chosen.model_id.rstrip("/").split("/")[-1]
    settings = {
        name: value for name, value in given.items() if name not in ("run_name", "project", "report_to")
    }
    checksum = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:6]
    method = folder_name(chosen.advantage_method)
    return f"{model}-{method}-n{chosen.num_elements}-bs{chosen.batch_size}-gs{chosen.group_size}-{checksum}"


def make_single_run(given: Fields, *, overwrite: bool = False, console: Console | None = None) -> StoredRun:
    """Make the run in this process, go on with it, or read it where it is done.

    Raises:
        InputError: the folder holds a run of other settings, or `train_run` refuses.
        Interrupted: Ctrl-C.
    """
    folder = _claim(given, overwrite)
    console = console or Console(quiet=True)
    if not (folder / "run.json").is_file():
        if told := settle_threads(None):
            console.print(told)
        make_run(given, console=console)
    return StoredRun(folder)


def make_single_run_beside(
    given: Fields, *, overwrite: bool = False, look: Callable[[int, float | None], object]
) -> StoredRun:
    """The same in a process of its own, for a caller that must stay answerable, as the kernel of a notebook.

    Args:
        given: the fields.
        overwrite: make a run anew that is there.
        look: called twice a second with the last step and its success rate; step 0 is before the first.

    Raises:
        InputError: as above, or the run failed; the message is its error.
    """
    folder = _claim(given, overwrite)
    job = Job(fields=given, folder=folder)

    def report() -> None:
        rows = read_metrics(folder / "metrics.jsonl")
        look(int(rows[-1]["step"]) if rows else 0, rows[-1].get("success_rate") if rows else None)

    settle_threads(None)
    run_jobs([job], at_once=1, threads=torch.get_num_threads(), meanwhile=lambda: None, look=report)
    if not job.done:
        raise InputError(f"the run in {folder} failed: {job.error()}")
    return StoredRun(folder)


def _claim(given: Fields, overwrite: bool) -> Path:
    folder = Path(given["output_dir"])
    if overwrite:
        clear_folder(folder, overwrite=True)
    elif (folder / "run.json").is_file() and (other := differing_fields(make_recipe(given), folder)):
        raise InputError(
            f"{folder} holds a run with other settings ({', '.join(other)}); choose another output_dir, or --overwrite it"
        )
    return folder

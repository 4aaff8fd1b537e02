"""Every arm with every seed, paired: the same weights, batches and test set for all arms of a seed.

output_dir/
    cross_entropy-seed0/, maxrl-n1024-seed0/ …   one folder per run (run.py)
    results.json                                 what the report shows
    report.html, report.md, curves.png
"""

import json
import shutil
from pathlib import Path

import yaml
from rich.console import Console

from maxrl.errors import InputError
from maxrl.evaluation.files import atomic_text
from maxrl.experiments.classification.config import ClassifyConfig, resolved
from maxrl.experiments.classification.data import Data, load_data
from maxrl.experiments.classification.measures import Measures
from maxrl.experiments.classification.objective import Arm
from maxrl.experiments.classification.report import write_report
from maxrl.experiments.classification.run import CHECKPOINT, Diverged, Run, Watch, train_run
from maxrl.experiments.classification.summary import Results, RunResult
from maxrl.experiments.environment import runs_environment, settle_threads
from maxrl.experiments.pages import new_progress
from maxrl.experiments.recipe import Fields, folder_name, to_yaml
from maxrl.experiments.store.metrics_file import read_metrics

ERROR_FILE = "error.txt"

FREE_ON_RESUME = frozenset(
    {"arms", "seeds", "output_dir", "logging_steps", "save_steps", "dataloader_num_workers", "cpu_threads"}
)
"""What may change when runs go on: which others there are, how they are watched, where they lie."""


def classify(config: ClassifyConfig, *, command: str, console: Console | None = None) -> tuple[Results, Path]:
    """Train every arm with every seed, one run after the other, and write the report.

    Seeds are the outer loop, so that an early look has all arms in it. A run that diverges stays as a row with its error;
    the others go on.

    Args:
        config: the experiment.
        command: how to repeat it, for the report.
        console: where progress goes; None for silence.

    Returns:
        The results, and the path of `report.html`.

    Raises:
        InputError: the data cannot be used, or output_dir holds other runs; nothing has been started then.
        Interrupted: Ctrl-C; a checkpoint was saved.
    """
    console = console or Console(quiet=True)
    root = config.root
    runs = plan_runs(config)
    config.torch_device()
    data = load_data(config)
    claim_folders(config, runs)
    if chosen := settle_threads(config.cpu_threads, runs[0].folder):
        console.print(chosen)
    for number, run in enumerate(runs, 1):
        if run.done:
            console.print(f"{run.folder.name}: done before")
            continue
        _make(run, config, data, console, f"{number}/{len(runs)} {run.folder.name}")
    results = Results(
        title=_title(config),
        command=command,
        settings=shared_settings(config),
        arms=tuple(arm.name for arm in config.parsed_arms),
        best=data.best(),
        classes=data.num_classes,
        runs=tuple(_result(run) for run in runs),
        environment=runs_environment(run.folder for run in runs),
    )
    with atomic_text(root / "results.json") as sink:
        json.dump(results.to_dict(), sink)
    return results, write_report(results, root)


def plan_runs(config: ClassifyConfig) -> list[Run]:
    """Every run, in the order in which they are made."""
    root = config.root
    return [
        Run(arm, seed, root / f"{_folder(arm)}-seed{seed}")
        for seed in config.seeds
        for arm in config.parsed_arms
    ]


def claim_folders(config: ClassifyConfig, runs: list[Run]) -> None:
    """See that nothing is mixed: refuse what is there, clear it or keep it, as the options say; then write the config files.

    Raises:
        InputError: output_dir holds runs that are neither to be resumed nor to be replaced, or that have other settings.
    """
    root = config.root
    if config.overwrite_output_dir:
        for run in runs:
            if run.folder.is_dir():
                shutil.rmtree(run.folder)
        (root / "results.json").unlink(missing_ok=True)
    elif not config.resume_from_checkpoint:
        found = [*root.glob("run.json"), *root.glob("*/run.json"), *root.glob(f"*/{CHECKPOINT}")]
        if found:
            raise InputError(
                f"{root} already holds a run ({found[0].relative_to(root)}); continue it with --resume_from_checkpoint "
                "true, replace it with --overwrite_output_dir true, or choose another --output_dir"
            )
    for run in runs:
        if different := _differences(run, config):
            raise InputError(
                f"{run.folder} holds a run with other settings ({', '.join(different)}); go on with its own, replace it "
                "with --overwrite_output_dir true, or choose another --output_dir"
            )
    for run in runs:
        if not run.begun:
            with atomic_text(run.folder / "config.yaml") as sink:
                sink.write(to_yaml(_run_fields(run, config)))


def shared_settings(config: ClassifyConfig) -> Fields:
    """What all runs have in common."""
    return {name: value for name, value in resolved(config).items() if name not in ("arms", "output_dir")}


def _run_fields(run: Run, config: ClassifyConfig) -> Fields:
    return {**resolved(config), "arms": [run.arm.name], "seeds": [run.seed]}


def _differences(run: Run, config: ClassifyConfig) -> list[str]:
    """Fields in which the run that a folder holds differs from the one that is asked for."""
    if not run.begun:
        return []
    stored = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    asked = yaml.safe_load(to_yaml(_run_fields(run, config)))
    names = (stored.keys() | asked.keys()) - FREE_ON_RESUME
    return sorted(name for name in names if stored.get(name) != asked.get(name))


def _folder(arm: Arm) -> str:
    return folder_name(arm.spec) + (f"-n{arm.num_generations}" if arm.estimator else "")


def _make(run: Run, config: ClassifyConfig, data: Data, console: Console, title: str) -> None:
    """Make a run; one that diverges leaves its error."""
    (run.folder / ERROR_FILE).unlink(missing_ok=True)
    progress = new_progress(console) if console.is_terminal else None
    try:
        if progress is None:
            train_run(run, config, data, watch=_tenths(console, title))
        else:
            with progress:
                bar = progress.add_task(title, total=None, note="")
                train_run(
                    run,
                    config,
                    data,
                    watch=lambda step, steps, note: progress.update(
                        bar, completed=step, total=steps, note=note
                    ),
                )
    except Diverged as error:
        with atomic_text(run.folder / ERROR_FILE) as sink:
            sink.write(f"{error}\n")
        console.print(f"{title}: failed: {error}")


def _tenths(console: Console, title: str) -> Watch:
    """A line every tenth of a run, where there is no terminal for a bar."""

    def watch(step: int, steps: int, note: str) -> None:
        if step == steps or step % max(1, -(-steps // 10)) == 0:
            console.print(f"{title}: step {step}/{steps}  {note}")

    return watch


def _result(run: Run) -> RunResult:
    error = run.folder / ERROR_FILE
    metrics = tuple(read_metrics(run.folder / "metrics.jsonl"))
    if not run.done:
        return RunResult(
            arm=run.arm.name,
            seed=run.seed,
            folder=run.folder.name,
            error=error.read_text(encoding="utf-8").strip(),
            metrics=metrics,
        )
    summary = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    return RunResult(
        arm=run.arm.name,
        seed=run.seed,
        folder=run.folder.name,
        evaluation=Measures.from_dict(summary["evaluation"]),
        training_seconds=summary["training_seconds"],
        metrics=metrics,
    )


def _title(config: ClassifyConfig) -> str:
    on = {
        "synthetic": f"{config.num_classes} classes of vectors made on the spot",
        "images": f"{config.num_classes} classes of pictures made on the spot",
        "folder": f"the images of {Path(config.image_folder or '').name}",
    }[config.data]
    return f"Classification as reinforcement learning: {on}"

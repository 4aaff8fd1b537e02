"""`maxrl grid`."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from maxrl.cli.common import make_console, take_flags
from maxrl.errors import InputError, MaxRLError, unknown_name
from maxrl.experiments import reports
from maxrl.experiments.fields import option_given
from maxrl.experiments.grids.drive import Event, Tell, cancel, check_runs, collect, drive, submit
from maxrl.experiments.grids.ledger import holder, only_one, open_grid, read_jobs, write_plan
from maxrl.experiments.grids.places import PLACES, make_place, options_help
from maxrl.experiments.grids.runner import GridRun, Runner
from maxrl.experiments.grids.spec import Grid
from maxrl.experiments.grids.standing import Others, status
from maxrl.experiments.grids.tables import plan_table, status_rows, status_table
from maxrl.experiments.grids.watching import GridWatch
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.store import find_runs

ACTIONS = {
    "plan": "check every run; show names, costs, and with --requests what each place would be sent",
    "run": "make every run that is not done, here or elsewhere; the same command goes on where it was",
    "status": "how every run stands",
    "logs": "what a run's job has printed; --follow goes on with what it prints",
    "cancel": "stop all runs, or those named, each with a checkpoint",
    "collect": "bring the runs' folders here and write the report",
}

USAGE = "\n".join(
    [
        "usage: maxrl grid ACTION SPEC [RUN …] [--on PLACE] [--output_dir DIR] [options of the place]",
        "",
        *(f"  {name:<9}{text}" for name, text in ACTIONS.items()),
        "",
        "SPEC is a YAML file (recipes/grids/ has some; docs/grids.md explains them), or the folder of a grid's runs.",
        "RUN is the name of a run, as plan shows it.",
        "",
        "  --on PLACE       "
        + ", ".join(PLACES)
        + " (default: local; later actions know where a run was given to)",
        "  --output_dir DIR  where the runs go, in place of what the spec says",
        "  --retry-failed   (run) start runs again that ended with an error of their own",
        "  --dry-run        (run) show what would be sent, send nothing",
        "  --requests       (plan) the same",
        "  --follow         (logs) until the job ends",
        "  --json           (plan, status) for programs",
        "  -q, --quiet",
        "",
        "examples:",
        "  maxrl grid plan recipes/grids/subset_sum_benchmark.yaml",
        "  maxrl grid run recipes/grids/subset_sum_tiny.yaml --jobs 2",
        '  maxrl grid run recipes/grids/subset_sum_benchmark.yaml --on hf-jobs --package "" --dry-run',
        "  maxrl grid status runs/subset-sum-tiny",
    ]
)
_FLAGS_OF = {
    "plan": ("--requests", "--json"),
    "run": ("--retry-failed", "--dry-run"),
    "status": ("--json",),
    "logs": ("--follow",),
    "cancel": (),
    "collect": (),
}
_ALWAYS = ("-q", "--quiet", "-h", "--help")


def run(argv: Sequence[str]) -> int:
    """One action on a grid."""
    words, flags = take_flags(argv, *_ALWAYS, *(flag for own in _FLAGS_OF.values() for flag in own))
    if flags & {"-h", "--help"} or not words:
        print(USAGE, *map(options_help, PLACES), sep="\n\n")
        return 0 if flags & {"-h", "--help"} else 2
    action, rest = words[0], words[1:]
    if action not in ACTIONS:
        raise unknown_name("action", action, ACTIONS)
    if strangers := sorted(flags.difference(_ALWAYS, _FLAGS_OF[action])):
        actions = " and ".join(name for name, own in _FLAGS_OF.items() if strangers[0] in own)
        raise InputError(f"{strangers[0]} is no option of grid {action}, but of {actions}")
    quiet_libraries()
    console = make_console(quiet=bool(flags & {"-q", "--quiet"}))
    named, options = _split(rest)
    if not named:
        raise InputError(f"grid {action} needs a spec: a YAML file, or the folder that a grid's runs are in")
    output_dir = option_given(options, "output_dir")
    grid = open_grid(Path(named[0]), output_dir=output_dir)
    given = option_given(options, "on")
    if options and options[-1] in ("--on", "--output_dir", "--output-dir"):
        raise InputError(f"{options[-1]} needs a value; see maxrl grid --help")
    options = _without(options, "output_dir", "on")
    if action in ("plan", "run", "status", "collect") and len(named) > 1:
        raise InputError(f"grid {action} is about all runs; unexpected word '{named[1]}'")
    if strangers := [name for name in named[1:] if name not in {run.name for run in grid.runs}]:
        raise unknown_name("run of the grid", strangers[0], [run.name for run in grid.runs])
    used = _used(grid, named[1:])
    if action in ("run", "cancel") and given is None and len(used) > 1:
        raise InputError(f"the runs were given to {' and '.join(used)}: say which place is meant, with --on")
    place = make_place(given or (used[0] if len(used) == 1 else "local"), grid, options)

    def others(name: str) -> Runner:
        return make_place(name, grid, [])

    if action == "plan" or "--dry-run" in flags:
        return _plan(grid, place, flags)
    if action == "run":
        return _run(grid, place, others, flags, console)
    if action == "status":
        return _status(grid, place, others, flags)
    if action == "logs":
        return _logs(grid, place, named[1:], follow="--follow" in flags)
    if action == "cancel":
        return _cancel(grid, place, named[1:], console)
    return _collect(grid, place, others, named[0], console)


def _plan(grid: Grid, place: Runner, flags: set[str]) -> int:
    check_runs(grid)
    table, rows = plan_table(grid, place)
    if "--json" in flags:
        print(json.dumps(rows, indent=1))
        return 0
    if "--dry-run" not in flags:
        Console().print(table)
    if flags & {"--requests", "--dry-run"}:
        for found in status(grid, None):
            if found.standing not in ("done", "failed"):
                print(f"# {found.run.name}", place.request(found.run), sep="\n", end="\n\n")
    return 0


def _run(grid: Grid, place: Runner, others: Others, flags: set[str], console: Console) -> int:
    check_runs(grid)
    # A shell that starts it in the background may have it ignore Ctrl-C, by which `maxrl grid cancel` stops it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    retry = "--retry-failed" in flags
    with only_one(grid.folder), GridWatch(grid, console) as watch:
        write_plan(grid)
        if place.detached:
            submit(grid, place, _told_with_ids(watch), retry_failed=retry, others=others)
        else:
            drive(grid, place, watch.tell, retry_failed=retry, look=watch.look, others=others)
    found = status(grid, place, others)
    counts = {name: sum(row.standing == name for row in found) for name in ("done", "failed", "stopped")}
    if place.detached:
        print(
            f"maxrl grid status {grid.folder} shows how they stand; maxrl grid collect {grid.folder} brings what is done"
        )
        return 0
    print(f"{counts['done']} of {len(found)} runs done, {counts['failed']} failed: {grid.folder}")
    if counts["failed"]:
        print("maxrl grid status shows their errors; --retry-failed tries them again")
    return 1 if counts["failed"] or counts["done"] < len(found) else 0


def _told_with_ids(watch: GridWatch) -> Tell:
    """Jobs that go on by themselves are printed with their ids, which other tools of their place take."""

    def tell(run: GridRun, event: Event, remark: str) -> None:
        if event in ("started", "resumed"):
            print(f"{run.name}: {event} as job {remark}", flush=True)
        else:
            watch.tell(run, event, remark)

    return tell


def _status(grid: Grid, place: Runner, others: Others, flags: set[str]) -> int:
    found = status(grid, place, others)
    if "--json" in flags:
        print(json.dumps(status_rows(found), indent=1))
    else:
        Console().print(status_table(grid, found))
    return 0


def _logs(grid: Grid, place: Runner, names: Sequence[str], *, follow: bool) -> int:
    if len(names) != 1:
        raise InputError("grid logs shows one run: name it after the spec, as `maxrl grid status` does")
    jobs = read_jobs(grid.folder)
    if names[0] not in jobs:
        raise InputError(f"no job was started for {names[0]} yet: `maxrl grid run` starts it")
    (run,) = (run for run in grid.runs if run.name == names[0])
    for line in place.logs(run, jobs[run.name].job, follow=follow):
        print(line)
    return 0


def _cancel(grid: Grid, place: Runner, names: Sequence[str], console: Console) -> int:
    driver = None if place.detached else holder(grid.folder)
    if driver is not None and not names:
        if not driver.alive:
            raise MaxRLError(
                f"process {driver.pid} of another machine runs the grid: cancel it there, or name the runs to be stopped"
            )
        os.kill(driver.pid, signal.SIGINT)  # which stops its runs, and does not start the next ones
        print(f"asked process {driver.pid}, which runs the grid, to stop")
        return 0
    if asked := cancel(grid, place, names):
        print("\n".join(f"{name}: asked to stop" for name in asked))
    else:
        console.print("nothing is at work")
    return 0


def _collect(grid: Grid, place: Runner, others: Others, spec: str, console: Console) -> int:
    for row in status(grid, None):
        if row.job is not None:
            collect(place if row.job.place == place.name else others(row.job.place), row)
    begun = [run for run in grid.runs if _left_something(run)]
    runs = [stored for run in begun for stored in find_runs([run.folder])]
    if not runs:
        raise InputError(f"none of the {len(grid.runs)} runs has left anything yet: {grid.folder}")
    missing = len(grid.runs) - len(begun)
    if missing:
        console.print(f"{missing} of {len(grid.runs)} runs have left nothing yet")
    html, _ = reports.report_runs(
        runs, grid.folder, title=grid.name, command=f"maxrl grid run {spec} && maxrl grid collect {spec}"
    )
    print(f"report: {html}")
    return 0


def _left_something(run: GridRun) -> bool:
    try:
        return run.folder.is_dir() and bool(find_runs([run.folder]))
    except InputError:  # a folder that holds no run yet
        return False


def _used(grid: Grid, names: Sequence[str]) -> list[str]:
    """Where runs (all, where none is named) were given to."""
    return sorted({job.place for name, job in read_jobs(grid.folder).items() if not names or name in names})


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words before the first option, and the rest."""
    first = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
    return list(words[:first]), list(words[first:])


def _without(words: Sequence[str], *names: str) -> list[str]:
    """The words without some options and their values."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
            continue
        name, equals, _ = word.removeprefix("--").replace("-", "_").partition("=")
        if word.startswith("--") and name in names:
            skip = not equals
            continue
        kept.append(word)
    return kept

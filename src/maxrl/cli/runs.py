"""`maxrl runs`."""

import json
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console

from maxrl.cli.common import CommandParser
from maxrl.errors import InputError, unknown_name
from maxrl.experiments.store import StoredRun, find_runs
from maxrl.experiments.store.checkpoints import KEPT
from maxrl.experiments.store.pruning import prune_runs, size_text
from maxrl.experiments.store.tables import (
    SORTS,
    differences_table,
    run_differences,
    run_row,
    runs_table,
    select_runs,
    sorted_rows,
)

HELP = f"""\
usage: maxrl runs list [FOLDERS…] [--state STATE] [--where FIELD=VALUE …] [--sort ORDER] [--json]
       maxrl runs show RUN [--json]
       maxrl runs diff A B [--json]
       maxrl runs prune [FOLDERS…] --keep last|none [--dry-run]

list    a line per run at or below the folders (runs/ by default): its state, how far it is, how well it does
show    all that one run's folder says: settings that are not defaults, error, environment, seeds, costs, pass@k before
        and after, checkpoints, files
diff    what two runs differ in: settings, environment, results
prune   remove checkpoints of runs that are done, except the last or all of them; running, stopped and failed ones keep
        theirs, since they can go on from them

--state   done, running, failed (ended with an error), stopped (killed or interrupted; it can be resumed)
--where   a field of the recipe and its value, as `--where advantage_estimator=grpo`; several must all hold
--sort    {", ".join(SORTS)}; by default by folder
--json    for programs: list gives a JSON array

examples:
  maxrl runs list
  maxrl runs list runs/grid --state failed
  maxrl runs list --where num_generations=64 --sort pass@k
  maxrl runs show runs/demo/maxrl-seed0
  maxrl runs diff runs/demo/maxrl-seed0 runs/demo/grpo-seed0
  maxrl runs prune runs/grid --keep last --dry-run"""

DEFAULT_FOLDER = Path("runs")


def run(argv: Sequence[str]) -> int:
    """List, show, compare or prune runs on disk."""
    if not argv or {"-h", "--help"} & set(argv):
        print(HELP)
        return 0 if argv else 2
    actions = {"list": _list, "show": _show, "diff": _diff, "prune": _prune}
    if argv[0] not in actions:
        raise unknown_name("action of maxrl runs", argv[0], actions)
    return actions[argv[0]](argv[1:])


def _parser(action: str) -> CommandParser:
    return CommandParser(prog=f"maxrl runs {action}", add_help=False)


def _found(folders: Sequence[Path]) -> list[StoredRun]:
    if not folders and not DEFAULT_FOLDER.is_dir():
        raise InputError("there is no folder runs/ here; name the folders that hold runs")
    return find_runs(folders or [DEFAULT_FOLDER])


def _list(words: Sequence[str]) -> int:
    parser = _parser("list")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--state")
    parser.add_argument("--where", nargs="+", action="extend", default=[])
    parser.add_argument("--sort")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(words)
    found = _found(given.folders)
    chosen = select_runs(found, state=given.state, where=given.where)
    rows = sorted_rows([run_row(one) for one in chosen], given.sort)
    if given.json:
        print(json.dumps(rows, indent=1))
        return 0
    if not rows:
        print(f"none of {len(found)} runs is such a one")
        return 0
    console = Console(highlight=False)
    console.print(runs_table(rows))
    for row in rows:
        if row["error"] and (row["damaged"] or row["state"] == "failed"):
            console.print(f"{row['name']}: {row['error']}", markup=False, style="red")
    return 0


def _one_run(folder: Path) -> StoredRun:
    found = find_runs([folder])
    if len(found) > 1:
        first = found[0].folder
        raise InputError(
            f"{folder} holds {len(found)} runs: name one of them, such as {first}, or `maxrl runs list`"
        )
    return found[0]


def _show(words: Sequence[str]) -> int:
    parser = _parser("show")
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(words)
    run = _one_run(given.run)
    # Defaults are TRL's, too, whose import takes longer than everything else here: `list` does without.
    view = import_module("maxrl.experiments.store.details")
    details = view.run_details(run)
    if given.json:
        print(json.dumps(details, indent=1, default=str))
    else:
        Console(highlight=False).print(view.details_page(details, now=time.time()))
    return 0


def _diff(words: Sequence[str]) -> int:
    parser = _parser("diff")
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(words)
    first, second = _one_run(given.a), _one_run(given.b)
    found = run_differences(first, second)
    if given.json:
        print(json.dumps(found, indent=1, default=str))
        return 0
    names = [first.name, second.name]
    if names[0] == names[1]:
        names = [str(given.a), str(given.b)]
    console = Console(highlight=False)
    for kind, values in found.items():
        if values:
            console.print(differences_table(kind, names, values))
        else:
            console.print(f"{kind}: nothing differs")
    return 0


def _prune(words: Sequence[str]) -> int:
    parser = _parser("prune")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--keep", required=True, choices=[policy for policy in KEPT if policy != "all"])
    parser.add_argument("--dry-run", "--dry_run", action="store_true")
    given = parser.parse_args(words)
    results = prune_runs(_found(given.folders), given.keep, dry_run=given.dry_run)
    verb = "would remove" if given.dry_run else "removed"
    for result in results:
        if result.reason:
            print(f"{result.run.folder}: left as it is ({result.reason})")
        elif result.removed:
            names = ", ".join(path.name for path in result.removed)
            print(f"{result.run.folder}: {verb} {names} ({size_text(result.size)})")
    total = sum(result.size for result in results)
    count = sum(len(result.removed) for result in results)
    print(f"{verb} {count} checkpoints of {len(results)} runs, {size_text(total)}")
    return 0

"""A grid's plan and its standing, as tables and as rows for programs."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from maxrl.errors import InputError, MaxRLError
from maxrl.experiments.grids.costs import RunCost, estimate
from maxrl.experiments.grids.hf_jobs import HfJobsRunner, hourly_price
from maxrl.experiments.grids.hf_options import seconds
from maxrl.experiments.grids.runner import Runner
from maxrl.experiments.grids.spec import Grid
from maxrl.experiments.grids.standing import RunStatus, status
from maxrl.experiments.wording import count, duration

_STYLES = {"done": "green", "failed": "red", "running": "cyan", "queued": "cyan", "stopped": "yellow"}

_TO_MAKE = ("waiting", "stopped", "queued", "running")
_OF_COSTS = ["steps", "rollouts", "tokens ≤", "time"]


def plan_table(grid: Grid, place: Runner) -> tuple[Table, list[dict[str, Any]]]:
    """Every run with what it will cost at most, and the sum; the same as rows."""
    found = status(grid, None)
    done = [row.stored for row in found if row.standing == "done"]
    devices = [place.device(row.run) for row in found]
    costs = [
        estimate([row.run], device=device, done=done)[0] for row, device in zip(found, devices, strict=True)
    ]
    table = Table(title=Text(grid.name), box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("run", overflow="fold")
    # Names are long; before the first start, when plans are read most, their column gets the room.
    begun = any(row.standing != "waiting" for row in found)
    for column in ["state", *_OF_COSTS] if begun else _OF_COSTS:
        table.add_column(column, justify="right")
    for row, cost in zip(found, costs, strict=True):
        table.add_row(
            Text(row.run.name),
            *([Text(row.standing, _STYLES.get(row.standing, ""))] if begun else []),
            *(
                Text("—" if value is None else count(value))
                for value in (cost.steps, cost.rollouts, cost.most_tokens)
            ),
            Text(_time(cost)),
        )
    left = [cost for row, cost in zip(found, costs, strict=True) if row.standing in _TO_MAKE]
    table.add_section()
    table.add_row(
        Text(f"{len(left)} of {len(found)} runs to make"),
        *([""] if begun else []),
        "",
        *(Text(_total([getattr(c, name) for c in left])) for name in ("rollouts", "most_tokens")),
        Text(_whole_time(left)),
    )
    table.caption = Text(
        _caption(left, place, [d for row, d in zip(found, devices, strict=True) if row.standing in _TO_MAKE])
    )
    rows = [
        {
            "run": row.run.name,
            "state": row.standing,
            "folder": str(row.run.folder),
            **dict(row.run.point),
            "steps": cost.steps,
            "rollouts": cost.rollouts,
            "most_tokens": cost.most_tokens,
            "parameters": cost.parameters,
            "seconds": cost.seconds,
            "seconds_measured": cost.measured,
            "device": device,
        }
        for row, cost, device in zip(found, costs, devices, strict=True)
    ]
    return table, rows


def status_rows(found: Sequence[RunStatus]) -> list[dict[str, Any]]:
    """How every run stands, in plain types."""
    return [
        {
            "run": row.run.name,
            "state": row.standing,
            "message": row.message,
            **_progress(row),
            "place": row.job.place if row.job else None,
            "job": row.job.job if row.job else None,
            "attempts": row.job.attempts if row.job else 0,
            "folder": str(row.run.folder),
        }
        for row in found
    ]


def _progress(row: RunStatus) -> dict[str, Any]:
    """How far a run is. Damaged files are told instead: the other runs are to be seen all the same."""
    stored = row.stored
    try:
        last = stored.metrics[-1] if stored.metrics else {}
        return {
            "step": stored.step,
            "max_steps": stored.max_steps or row.run.fields.get("max_steps"),
            "success_rate": last.get("success_rate"),
            "seconds": last.get("elapsed"),
            "pass_at_k": stored.summary.get("pass_at_k"),
        }
    except InputError as error:
        return {
            **dict.fromkeys(("step", "max_steps", "success_rate", "seconds", "pass_at_k")),
            "message": str(error),
        }


def status_table(grid: Grid, found: Sequence[RunStatus]) -> Table:
    """How every run stands, for a terminal of 80 columns."""
    counts = {
        name: sum(row.standing == name for row in found) for name in dict.fromkeys(r.standing for r in found)
    }
    table = Table(
        title=Text(grid.name),
        caption=Text(", ".join(f"{number} {name}" for name, number in counts.items())),
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("run", overflow="fold")
    for column in ("state", "step", "success", "time", "job"):
        table.add_column(column, justify="right", overflow="fold")
    for row, plain in zip(found, status_rows(found), strict=True):
        rate = plain["success_rate"]
        table.add_row(
            Text(row.run.name),
            Text(row.standing, _STYLES.get(row.standing, "")),
            Text(f"{plain['step']}/{plain['max_steps'] or '?'}" if plain["step"] else "—"),
            Text("—" if rate is None else f"{100 * rate:.1f} %"),
            Text("—" if plain["seconds"] is None else duration(plain["seconds"])),
            Text(_job(row)),
        )
        if plain["message"]:
            table.add_row(Text(f"  {plain['message']}", "red" if row.standing == "failed" else "dim"))
    return table


def _job(row: RunStatus) -> str:
    if row.job is None:
        return "—"
    again = f", {row.job.attempts} starts" if row.job.attempts > 1 else ""
    identity = "" if row.job.place in ("local", "ray") else f" {row.job.job}"
    return f"{row.job.place}{identity}{again}"


def _time(cost: RunCost) -> str:
    if cost.seconds is None:
        return "?"
    return duration(cost.seconds) if cost.measured else f"~ {duration(cost.seconds)}"


def _total(values: Sequence[int | None]) -> str:
    return "—" if any(value is None for value in values) else count(sum(v for v in values if v is not None))


def _whole_time(costs: Sequence[RunCost]) -> str:
    known = [cost.seconds for cost in costs if cost.seconds is not None]
    if len(known) < len(costs):
        return "?"
    rough = "" if all(cost.measured for cost in costs) else "~ "
    return f"{rough}{duration(sum(known))}"


def _caption(left: Sequence[RunCost], place: Runner, devices: Sequence[str | None]) -> str:
    said = []
    slots = place.slots()
    if slots and slots > 1 and left:
        said.append(f"{slots} runs at a time: the last line is to be divided by {slots}")
    if any(cost.seconds is not None and not cost.measured for cost in left):
        said.append(
            f"~ from the sizes of the model and of {' and '.join(sorted({d for d in devices if d}))}: good to a factor of "
            "about five; runs that are done replace it"
        )
    if isinstance(place, HfJobsRunner) and left:
        said.append(_dollars(left, place, [str(device) for device in devices]))
    return "; ".join(said)


def _dollars(left: Sequence[RunCost], place: HfJobsRunner, flavors: Sequence[str]) -> str:
    try:
        prices = {flavor: hourly_price(flavor) for flavor in set(flavors)}
    except MaxRLError as error:
        return f"prices are not known ({error})"
    hours = seconds(place.options.timeout) / 3600
    most = sum(prices[flavor] for flavor in flavors) * hours
    likely = [
        cost.seconds / 3600 * prices[flavor]
        for cost, flavor in zip(left, flavors, strict=True)
        if cost.seconds is not None
    ]
    told = f"at most ${most:.2f} ({place.options.timeout} each)"
    return f"about ${sum(likely):.2f}, {told}" if len(likely) == len(left) else told

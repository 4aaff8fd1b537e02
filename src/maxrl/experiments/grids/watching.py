"""What a terminal shows while a grid runs."""

from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.markup import escape

from maxrl.experiments.grids.drive import Event
from maxrl.experiments.grids.runner import GridRun
from maxrl.experiments.grids.spec import Grid
from maxrl.experiments.pages import new_progress
from maxrl.experiments.store.metrics_file import read_metrics

_ENDS = ("done", "failed", "died", "cancelled")


class GridWatch:
    """A bar for the grid and one for each run at work; a line for whatever happens where there is no terminal."""

    def __init__(self, grid: Grid, console: Console) -> None:
        self.console = console
        self.total = len(grid.runs)
        self.ended = 0
        self.progress = new_progress(console) if console.is_terminal else None
        self.whole: Any = None
        self.bars: dict[str, tuple[Any, Path]] = {}

    def __enter__(self) -> Self:
        if self.progress is not None:
            self.whole = self.progress.add_task("runs", total=self.total, note="")
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def tell(self, run: GridRun, event: Event, remark: str) -> None:
        """Show what happened to a run."""
        if event == "left" and remark == "done":
            self._ended()
            return
        if event in ("started", "resumed") and self.progress is not None:
            total = int(run.fields.get("max_steps", -1))
            bar = self.progress.add_task(escape(run.name), total=total if total > 0 else None, note="")
            self.bars[run.name] = (bar, run.folder / "metrics.jsonl")
            return
        if event in _ENDS:
            if run.name in self.bars and self.progress is not None:
                self.progress.remove_task(self.bars.pop(run.name)[0])
            if event != "died":
                self._ended()
        said = f"left as it is, {remark}" if event == "left" else event
        quiet = event in ("started", "resumed", "left") or not remark
        line = f"{run.name}: {said}" if quiet else f"{run.name}: {said}: {remark}"
        self.console.print(escape(line), soft_wrap=True)

    def look(self) -> None:
        """Bring the bars up to date."""
        if self.progress is None:
            return
        for bar, metrics in self.bars.values():
            if rows := read_metrics(metrics):
                rate = rows[-1].get("success_rate")
                note = "" if rate is None else f"success {rate:.3f}"
                self.progress.update(bar, completed=rows[-1]["step"], note=note)

    def _ended(self) -> None:
        self.ended += 1
        if self.progress is not None:
            self.progress.update(self.whole, completed=self.ended)

"""Pages on synthetic runs, made once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.experiments.conftest import Pages
from tests.experiments.reports.synthetic import ENVIRONMENT, Maker, a_grid

from maxrl.experiments.reports import report_runs
from maxrl.experiments.store import find_runs


@pytest.fixture(scope="session")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pages]:
    """Write the page on what lies in some folders, and read it."""

    def pages(*folders: Path, **options: Any) -> Pages:
        out = tmp_path_factory.mktemp("page") / "new"
        html, markdown = report_runs(find_runs(folders), out, **{"command": "maxrl report runs", **options})
        return Pages(html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8"))

    return pages


@pytest.fixture(scope="session")
def grid_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Easy and hard × N of 16 and 32 × two arms × two seeds; one more run failed, one was stopped, code differs."""
    folder = tmp_path_factory.mktemp("grid")
    maker = Maker(steps=40, problems=50, samples=16)
    a_grid(folder, maker, groups=(16, 32))
    hard: dict[str, Any] = {
        "num_elements": 10,
        "max_value": 50,
        "num_generations": 32,
        "per_device_train_batch_size": 256,
    }
    changed = {**ENVIRONMENT, "code": "0123456789ab+changes"}
    maker.run(folder / "failed-run", "grpo", 2, state="failed", environment=changed, **hard)
    maker.run(folder / "stopped-run", "maxrl", 2, state="stopped", **hard)
    return folder


@pytest.fixture(scope="session")
def grid_page(grid_folder: Path, write: Callable[..., Pages]) -> Pages:
    return write(grid_folder)


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms with three seeds each, one setting."""
    folder = tmp_path_factory.mktemp("pair")
    maker = Maker(steps=40, problems=50, samples=16)
    for estimator in ("maxrl", "grpo"):
        for seed in (0, 1, 2):
            maker.run(folder / f"{estimator}-seed{seed}", estimator, seed)
    return folder


@pytest.fixture(scope="session")
def pair_page(pair_folder: Path, write: Callable[..., Pages]) -> Pages:
    return write(pair_folder)


def column(page: Pages, head: Sequence[str]) -> list[list[str]]:
    """Rows of the Markdown's table that begins with these heads."""
    return next(table[1:] for table in page.tables if table[0][: len(head)] == list(head))

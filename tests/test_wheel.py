"""What a stranger gets: the wheel, in an environment of its own, away from the repository."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import maxrl
from tests.smallest import write_recipe

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "maxrl"


def run(*words: str | Path, cwd: Path, **variables: str) -> str:
    """What a command prints, away from the repository; its complaints where it fails."""
    leads_back = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in leads_back}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because building writes beside the sources; tests lie there to be left out."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("src", "tests"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, source / name, ignore=unwanted)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out, source, cwd=out)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(files: dict[str, bytes]) -> Message:
    (text,) = (content for name, content in files.items() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(text.decode())


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `python` and `maxrl` in a fresh environment that holds the wheel and borrows what it needs."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    places = {"base": str(folder), "platbase": str(folder)}
    programs = Path(sysconfig.get_path("scripts", "venv", vars=places))
    run(programs / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A path in a .pth file comes last and its own .pth files are not read: the editable install here stays out.
    ours = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    site = Path(sysconfig.get_path("purelib", "venv", vars=places))
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in ours))
    return programs


def test_the_wheel_holds_the_package_whole_and_nothing_else(files: dict[str, bytes]) -> None:
    about = f"maxrl-{maxrl.__version__}.dist-info/"
    package = {name for name in files if not name.startswith(about)}
    assert package == {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in (*PACKAGE.rglob("*"), PACKAGE.parent / "maxrl_tasks.py")
        if path.is_file() and "__pycache__" not in path.parts
    }
    templates = "maxrl/experiments/templates/"
    named = {
        "maxrl/py.typed",
        *(templates + name for name in ("report.css", "report.html.j2", "report.md.j2")),
    }
    assert named <= package
    assert not [name for name in files if "tests" in Path(name).parts]
    assert files[f"{about}licenses/LICENSE"] == (REPOSITORY / "LICENSE").read_bytes()


def test_its_metadata_say_what_it_is_and_needs(metadata: Message) -> None:
    assert metadata["Name"] == "maxrl"
    assert metadata["Version"] == maxrl.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata.get_payload() == (REPOSITORY / "README.md").read_text(encoding="utf-8")
    needed = {
        re.split(r"[^\w.-]", line)[0]
        for line in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in line
    }
    assert {"torch", "transformers", "trl"} <= needed
    assert not {"pytest", "ruff", "build"} & needed


def test_it_runs_away_from_the_repository(programs: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, max_steps=2)
    empty = tmp_path / "empty"
    empty.mkdir()
    variables = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "MAXRL_CACHE": str(tmp_path / "cache"),
        "COLUMNS": "100",
    }

    where = run(
        programs / "python", "-c", "import maxrl, sys; print(maxrl.__file__, *sys.path, sep='\\n')", cwd=empty
    )
    home, *path = where.splitlines()
    assert Path(home).is_relative_to(programs.parent)
    assert [entry for entry in path if (empty / entry / "maxrl").is_dir()] == [str(Path(home).parents[1])]

    def command(*words: str | Path) -> str:
        return run(programs / "maxrl", *words, cwd=empty, **variables)

    assert command("--version") == f"maxrl {maxrl.__version__}\n"
    weights = command("inspect", "--n", "8", "--vs", "grpo")
    assert "order T = 7" in weights
    assert "1.9844" in weights  # (1 − (1 − p)^7)/p at p = ½: (1 − 1/128)·2
    resolved = command("train", "--config", recipe, "--dry-run")
    assert "task: subset_sum" in resolved
    assert "max_steps: 2" in resolved
    assert not any(empty.iterdir())

    words = ["--config", recipe, "--estimators", "maxrl", "grpo", "--seeds", "0", "--jobs", "1"]
    out = command("compare", *words, "--output_dir", "out", "-q")
    assert out.strip().endswith("report: out/report.html")
    html = (empty / "out" / "report.html").read_text(encoding="utf-8")
    assert html.count("<figure") > 3
    assert "<svg" in html
    assert files["maxrl/experiments/templates/report.css"].decode().strip() in html
    assert f"release {maxrl.__version__}" in html  # made by the installed package, not by a commit
    assert (empty / "out" / "report.md").read_text(encoding="utf-8").startswith("# ")

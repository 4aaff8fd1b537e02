"""The package as a whole: what importing it costs, and what it offers."""

import subprocess
import sys
import time
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import maxrl
from maxrl import engine, evaluation


def python(code: str) -> tuple[str, float]:
    """What a fresh interpreter prints, and the seconds it took."""
    started = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout, time.perf_counter() - started


def test_importing_loads_nothing_else() -> None:
    modules = "import maxrl, sys; print(*sorted(name for name in sys.modules if name.startswith('maxrl')))"
    assert python(modules)[0].split() == ["maxrl"]
    heavy = (
        "import maxrl, sys; print(*({'torch', 'transformers', 'trl', 'numpy', 'yaml'} & sys.modules.keys()))"
    )
    assert python(heavy)[0].split() == []


def test_importing_takes_no_time() -> None:
    # Half a second more than a bare interpreter is what is promised; a few milliseconds is what it takes. The
    # fastest of several runs, taken in turns, is what other work on the machine disturbs least.
    runs = [(python("pass")[1], python("import maxrl")[1]) for _ in range(5)]
    bare, imported = (min(column) for column in zip(*runs, strict=True))
    assert imported - bare < 0.5


def test_objectives_come_without_transformers() -> None:
    used = "import maxrl, sys; maxrl.MaxRL; print(*({'torch', 'transformers', 'trl'} & sys.modules.keys()))"
    assert python(used)[0].split() == ["torch"]


@pytest.mark.parametrize("command", ["report", "runs", "watch", "simulate", "inspect"])
def test_what_only_reads_comes_without_transformers(command: str) -> None:
    used = (
        f"import sys, maxrl.cli.{command}; print(*({{'transformers', 'trl', 'peft'}} & sys.modules.keys()))"
    )
    assert python(used)[0].split() == []


@pytest.mark.parametrize("room", [engine, evaluation])
def test_a_room_offers_all_its_names_and_no_other(room: ModuleType) -> None:
    for name in room.__all__:
        value = getattr(room, name)
        assert value is getattr(import_module(value.__module__), name)
        assert value.__module__.startswith(f"{room.__name__}.")
    with pytest.raises(AttributeError, match=f"module '{room.__name__}' has no attribute 'nonesuch'"):
        _ = room.nonesuch


@pytest.mark.parametrize("name", maxrl.__all__)
def test_every_public_name_is_what_its_home_calls_so(name: str) -> None:
    value = getattr(maxrl, name)
    if name != "__version__":
        assert value is getattr(import_module(value.__module__), name)
        assert value.__module__.startswith("maxrl.")
    assert name in dir(maxrl)


def test_the_public_contract_is_kept() -> None:
    promised = {"MaxRL", "GRPO", "RLOO", "DrGRPO", "Reinforce", "pass_at_k", "effective_weight"}
    assert promised | {"MaxRLConfig", "MaxRLTrainer"} <= set(maxrl.__all__)


def test_names_are_resolved_once() -> None:
    assert maxrl.MaxRL is maxrl.MaxRL
    assert "MaxRL" in vars(maxrl)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'maxrl' has no attribute 'MaxRl'"):
        maxrl.MaxRl  # noqa: B018 # pyright: ignore[reportAttributeAccessIssue]
    assert not hasattr(maxrl, "nothing")


def test_the_version_is_the_one_of_the_project() -> None:
    project = Path(__file__).parents[1] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == maxrl.__version__

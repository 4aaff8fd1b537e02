"""A working folder and a cache of warm starts that the command-line tests share."""

import sys
from pathlib import Path

import datasets  # noqa: F401 — its messages go to what standard error is at its first import: here none of a test's
import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One warm start serves them all."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workplace(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the search path for modules is put back afterwards."""
    monkeypatch.setenv("MAXRL_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path

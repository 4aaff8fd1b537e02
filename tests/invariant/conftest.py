"""What processes started by these tests see."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One thread, no network, a cache of warm starts of their own."""
    return {
        **os.environ,
        "MAXRL_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }

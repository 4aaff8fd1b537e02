"""Two gloo ranks train as one process with the same global batch does."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maxrl.models import load_policy

SCRIPT = Path(__file__).with_name("scripted_run.py")


def run(
    environment: dict[str, str], policy: Path, output: Path, ranks: int, rows: int, *options: str
) -> dict:
    launcher = [sys.executable]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    finished = subprocess.run(
        [*launcher, str(SCRIPT), str(policy), str(output), str(rows), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return torch.load(output)


@pytest.mark.slow
@pytest.mark.parametrize("rows_of_two", [4, 6], ids=["whole groups", "groups split over ranks"])
@pytest.mark.parametrize(
    ("source", "backend"),
    [("scripted", "transformers"), ("scripted", "engine"), ("sampled", "engine")],
)
def test_two_ranks_equal_one_process(
    policy_folder: Path,
    tmp_path: Path,
    environment: dict[str, str],
    rows_of_two: int,
    source: str,
    backend: str,
) -> None:
    """Also where each rank samples its own rows: a rollout's random numbers belong to its prompt and its number."""
    alone = run(environment, policy_folder, tmp_path / "one.pt", 1, 2 * rows_of_two, source, backend)
    together = run(environment, policy_folder, tmp_path / "two.pt", 2, rows_of_two, source, backend)
    assert together["advantages"] == alone["advantages"]
    assert any(value != 0 for batch in alone["advantages"] for value in batch)
    assert together["success_rate"] == alone["success_rate"]
    for name in alone["weights"]:
        torch.testing.assert_close(together["weights"][name], alone["weights"][name], rtol=0, atol=1e-5)
    assert moved(alone, policy_folder) > 1e-3, "a run that goes nowhere would agree with anything"


def moved(result: dict, policy: Path) -> float:
    """How far the weights have come, the farthest of them."""
    initial = {name: p.detach() for name, p in load_policy(str(policy)).named_parameters()}
    return max(float((weight - initial[name]).abs().max()) for name, weight in result["weights"].items())

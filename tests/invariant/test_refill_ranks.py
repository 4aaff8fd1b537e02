"""Two gloo ranks refill dead groups together, each its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.invariant.refilling_rank import GROUP, KINDS

SCRIPT = Path(__file__).with_name("refilling_rank.py")


def launch(
    environment: dict[str, str], policy: Path, output: Path, rows: int, *live: str
) -> "subprocess.CompletedProcess[str]":
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [*launcher, str(SCRIPT), str(policy), str(output), str(rows), *live],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_ranks_draw_alike_and_keep_their_groups(
    policy_folder: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    finished = launch(environment, policy_folder, tmp_path / "out.json", 2 * GROUP)
    assert finished.returncode == 0, finished.stderr[-4000:]
    first, second = json.loads((tmp_path / "out.json").read_text())

    assert first["calls"][0] == ["0", "1"]
    assert second["calls"][0] == ["2", "3"]
    assert len(first["calls"]) > 1
    assert [len(call) for call in first["calls"]] == [len(call) for call in second["calls"]]
    missing = [1, 2]  # dead places of each rank
    for calls in zip(first["calls"][1:], second["calls"][1:], strict=True):
        assert [len(call) for call in calls] == [max(missing)] * 2, "as many as the rank that needs most"
        live = [sum(KINDS[int(number)] == "live" for number in call) for call in calls]
        missing = [max(0, wanted - found) for wanted, found in zip(missing, live, strict=True)]
    assert missing == [0, 0]
    drawn = [number for rank in (first, second) for call in rank["calls"] for number in call]
    assert len(set(drawn)) == len(drawn)

    # Without a history CurveRL gives MaxRL's advantages over N.
    group = [0.75, -0.25, -0.25, -0.25]
    assert first["advantages"] == second["advantages"] == group * 2
    assert first["rows"] == second["rows"] == 2 * GROUP
    tokens = first["tokens"] + second["tokens"]
    assert first["num_items_in_batch"] == second["num_items_in_batch"] == tokens
    assert first["progress"] == second["progress"]
    assert first["progress"]["rollouts"] == GROUP * len(drawn)
    assert set(first["progress"]["recent_pass_rates"]) == set(drawn)
    live = sum(KINDS[int(number)] == "live" for number in drawn)
    assert first["states"] == second["states"] == {"": {"pass_rates": [[0.25] * live]}}
    assert first["weights"] == second["weights"]
    (row,) = first["logged"]
    assert row["success_rate"] == pytest.approx(live / len(drawn) / GROUP)
    assert row["groups_refilled"] == 3
    saved = json.loads((tmp_path / "out.json.d" / "checkpoint-1" / "maxrl_state.json").read_text())
    assert saved["rollouts"] == GROUP * len(drawn)


@pytest.mark.slow
def test_groups_split_over_ranks_are_refused(
    policy_folder: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    refused = launch(environment, policy_folder, tmp_path / "out.json", 6)
    assert refused.returncode != 0
    assert "groups of num_generations=4 are split over ranks, which have 6 rows" in refused.stderr


@pytest.mark.slow
def test_ranks_stop_together_without_signal(
    policy_folder: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """And not before the first one has saved the checkpoint."""
    stopped = launch(environment, policy_folder, tmp_path / "out.json", 2 * GROUP, "none is")
    assert stopped.returncode != 0
    drawn = (2 + 8 * 2) * 2  # two places of each rank, and eight rounds
    says = f"no group has any signal at step 0: {GROUP * drawn} rollouts of {drawn} prompts"
    assert stopped.stderr.count(f"NoSignalError: {says}") >= 2
    checkpoint = tmp_path / "out.json.d" / "checkpoint-0"
    assert (checkpoint / "trainer_state.json").is_file()
    assert json.loads((checkpoint / "maxrl_state.json").read_text())["rollouts"] == GROUP * drawn

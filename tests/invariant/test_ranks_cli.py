"""`maxrl train` under a launcher: one run, one folder, written once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.smallest import write_recipe


@pytest.mark.slow
def test_two_ranks_leave_one_run(tmp_path: Path, policy_folder: Path) -> None:
    recipe = write_recipe(
        tmp_path, model_name_or_path=str(policy_folder), prompt_format="compact", max_steps=2
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = [
        "train",
        "-q",
        f"--config={recipe}",
        "--output_dir=run",
        "--use_cpu",
        "--per_device_train_batch_size=8",
    ]
    late = str(Path(__file__).with_name("late_rank.py"))
    for program in (["-m", "maxrl.cli", *words], [late, *words, "--overwrite_output_dir"]):
        done = subprocess.run(
            [*launcher, *program],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stdout.count("run: run") == 1
        folder = tmp_path / "run"
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
        assert len((folder / "samples.jsonl").read_text().splitlines()) == 6 * (4 + 1)
        summary = json.loads((folder / "run.json").read_text())
        assert summary["rollouts"] == 2 * 16

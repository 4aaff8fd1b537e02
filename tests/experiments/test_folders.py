"""Which checkpoints count: those that were written to their end, by every process of the run."""

import json
from pathlib import Path

import pytest
import torch
from tests.experiments.made_runs import make_run

from maxrl.errors import InputError
from maxrl.experiments.folders import clear_folder, differing_fields, last_checkpoint, run_record
from maxrl.experiments.recipe import make_recipe

ONE = ["rng_state.pth"]
TWO = ["rng_state_0.pth", "rng_state_1.pth"]


def checkpoint(folder: Path, step: int, files: list[str]) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "trainer_state.json").write_text("{}")
    for name in files:
        torch.save({}, path / name)
    return path


@pytest.mark.parametrize(
    ("processes", "files", "complete"),
    [
        ("1", [*ONE, "optimizer.pt"], True),
        ("1", ["optimizer.pt"], False),
        ("1", [], True),  # save_only_model
        ("2", [*TWO, "optimizer.pt"], True),
        ("2", ["rng_state_0.pth", "optimizer.pt"], False),
        ("2", ["rng_state_1.pth", "optimizer.pt"], False),
        ("2", ["optimizer.pt"], False),
        ("3", [*TWO, "optimizer.pt"], False),
        (None, [*ONE, "optimizer.pt"], True),
        (None, [*TWO, "optimizer.pt"], True),
        (None, ["rng_state_0.pth", "optimizer.pt"], False),
        # Resumed with another number of processes: what the earlier ones saved still serves.
        ("2", [*ONE, "optimizer.pt"], True),
        ("1", [*TWO, "optimizer.pt"], True),
    ],
)
def test_every_process_must_have_saved(
    tmp_path: Path, processes: str | None, files: list[str], complete: bool
) -> None:
    if processes is not None:
        (tmp_path / "environment.json").write_text(json.dumps({"processes": processes}))
    earlier = checkpoint(tmp_path, 2, [*ONE, "optimizer.pt"])
    later = checkpoint(tmp_path, 4, files)
    assert last_checkpoint(tmp_path) == (later if complete else earlier)


def test_half_written_files_do_not_count(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, 2, [*ONE, "optimizer.pt"])
    for step, name in enumerate(["optimizer.pt", "model.safetensors", "trainer_state.json"], start=3):
        (checkpoint(tmp_path, step, ONE) / name).write_bytes(b"half")
    assert last_checkpoint(tmp_path) == whole


def test_what_trained_is_removed_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "stage-1").mkdir()
    (tmp_path / "stage-1" / "eval_before.json").touch()
    (tmp_path / "stage-notes").mkdir()
    (tmp_path / "notes.txt").touch()
    clear_folder(tmp_path, overwrite=False)  # a start that failed
    kept = {tmp_path / "stage-notes", tmp_path / "notes.txt"}
    assert set(tmp_path.iterdir()) == kept
    (tmp_path / "stage-2" / "checkpoint-4").mkdir(parents=True)
    with pytest.raises(InputError, match=r"already holds a run \(stage-2\)"):
        clear_folder(tmp_path, overwrite=False)
    clear_folder(tmp_path, overwrite=True)
    assert set(tmp_path.iterdir()) == kept


@pytest.mark.parametrize("text", ["seed: [", "just text", ""])
def test_a_recipe_that_was_cut_off_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"config\.yaml is damaged"):
        differing_fields(make_recipe({"task": "subset_sum"}), tmp_path)


def test_the_record_of_a_run_names_the_file_that_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_record(tmp_path, tmp_path)
    folder = make_run(tmp_path / "one")
    assert run_record(folder, tmp_path).rollouts == 320
    (folder / "eval.json").write_text("{")
    with pytest.raises(InputError, match=r"eval\.json is damaged"):
        run_record(folder, tmp_path)

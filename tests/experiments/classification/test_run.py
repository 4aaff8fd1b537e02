"""Runs: the same after an interruption, bit for bit; steps without signal; what diverges says so."""

import json
import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maxrl.errors import InputError
from maxrl.experiments.classification import run as run_module
from maxrl.experiments.classification.config import ClassifyConfig
from maxrl.experiments.classification.data import load_data
from maxrl.experiments.classification.models import RESNETS, build_model
from maxrl.experiments.classification.objective import parse_arm
from maxrl.experiments.classification.run import CHECKPOINT, Diverged, Run, learning_rate, train_run
from maxrl.experiments.interrupts import Interrupted

MakeConfig = Callable[..., ClassifyConfig]


def a_run(config: ClassifyConfig, folder: Path, arm: str = "maxrl@8", seed: int = 0) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    return Run(parse_arm(arm, 8), seed, folder)


def rows(run: Run) -> list[dict[str, float]]:
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "elapsed"} for line in lines]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class _Stop(Exception):
    """As if the process had been killed."""


def stop_at(step: int) -> run_module.Watch:
    def watch(now: int, steps: int, note: str) -> None:
        if now == step:
            raise _Stop

    return watch


# --- resuming ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["maxrl@8", "cross_entropy", "curve_rl@8", "hybrid(steps=6)@8"])
@pytest.mark.parametrize("killed_at", [2, 7, 8, 11])
def test_a_killed_run_goes_on_from_its_checkpoint_bit_for_bit(
    make_config: MakeConfig, tmp_path: Path, arm: str, killed_at: int
) -> None:
    """Checkpoints every 5 steps, epochs of 4, logs every 3: none falls on another but at 12, 15 and 20."""
    config = make_config()
    data = load_data(config)
    whole, killed = a_run(config, tmp_path / "whole", arm), a_run(config, tmp_path / "killed", arm)
    train_run(whole, config, data)
    with pytest.raises(_Stop):
        train_run(killed, config, data, watch=stop_at(killed_at))
    assert (killed.folder / CHECKPOINT).is_file() == (killed_at > 5)
    assert not killed.done
    train_run(killed, config, load_data(config))
    assert same(weights(killed), weights(whole))
    assert rows(killed) == rows(whole)
    assert killed.done
    assert not (killed.folder / CHECKPOINT).exists()


def test_a_resnet_and_its_batch_statistics_are_resumed_too(
    make_config: MakeConfig, image_folder: Path, tmp_path: Path
) -> None:
    config = make_config(
        data="folder", image_folder=str(image_folder), model="tiny", image_size=8, save_steps=3
    )
    data = load_data(config)
    whole, killed = a_run(config, tmp_path / "whole"), a_run(config, tmp_path / "killed")
    train_run(whole, config, data)
    with pytest.raises(_Stop):
        train_run(killed, config, data, watch=stop_at(4))
    train_run(killed, config, data)
    assert any("running_mean" in name for name in weights(whole))
    assert same(weights(killed), weights(whole))
    assert rows(killed) == rows(whole)


def test_ctrl_c_saves_first_and_gives_the_handler_back(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    run, before = a_run(config, tmp_path / "run"), signal.getsignal(signal.SIGINT)

    def press(step: int, steps: int, note: str) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"interrupted at step 3 of run; .*--resume_from_checkpoint true"):
        train_run(run, config, load_data(config), watch=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(run.folder / CHECKPOINT, weights_only=True)["step"] == 3
    whole = a_run(config, tmp_path / "whole")
    train_run(whole, config, load_data(config))
    train_run(run, config, load_data(config))
    assert same(weights(run), weights(whole))


def test_ctrl_c_in_the_last_moment_stops_the_runs_that_follow(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    run = a_run(config, tmp_path / "run")

    def press(step: int, steps: int, note: str) -> None:
        if step == steps:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="interrupted after run; go on"):
        train_run(run, config, load_data(config), watch=press)
    assert run.done


def test_a_second_ctrl_c_stops_at_once(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    run = a_run(config, tmp_path / "run")

    def press(step: int, steps: int, note: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_run(run, config, load_data(config), watch=press)
    assert not run.begun


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 and later
def test_ctrl_c_leaves_the_processes_that_load_images_to_finish_the_step(
    make_config: MakeConfig, image_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A terminal sends Ctrl-C to all of them, not to the first one alone."""
    config = make_config(
        data="folder", image_folder=str(image_folder), model="tiny", image_size=8, dataloader_num_workers=2
    )
    run = a_run(config, tmp_path / "run")

    def press(step: int, steps: int, note: str) -> None:
        if step == 1:
            workers = multiprocessing.active_children()
            assert len(workers) == 2
            for process in (os.getpid(), *(worker.pid for worker in workers)):
                os.kill(int(process or 0), signal.SIGINT)

    with pytest.raises(Interrupted, match="interrupted at step 2"):
        train_run(run, config, load_data(config), watch=press)
    assert capfd.readouterr().err.count("finishing this step") == 1
    whole = a_run(config, tmp_path / "whole")
    train_run(whole, config, load_data(config))
    train_run(run, config, load_data(config))
    assert same(weights(run), weights(whole))


def test_the_figures_of_a_step_lie_where_its_loss_does(make_config: MakeConfig, tmp_path: Path) -> None:
    """A checkpoint's are loaded onto the device of the run, which means over both need on one."""
    config = make_config()
    trainer = run_module._Trainer(a_run(config, tmp_path / "run"), config, load_data(config))
    with torch.device("meta"):
        loss, log_p, drawn = torch.zeros(()), torch.zeros(4, 6), torch.zeros(4)
        labels = torch.zeros(4, dtype=torch.int64)
    trainer._note_step(loss, log_p, labels, drawn, signal_found=False)
    (row,) = trainer._pending
    assert {name: figure.device.type for name, figure in row.items()} == dict.fromkeys(row, "meta")
    assert "steps_without_signal" in row
    assert "success_rate" in row


# --- what a run leaves ------------------------------------------------------------------------------------


def test_a_run_learns_and_says_how(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        num_classes=10, input_size=32, hidden_size=32, noise=0.4, num_train_epochs=6, train_examples=256
    )
    run = a_run(config, tmp_path / "run", "maxrl@32")
    train_run(run, config, load_data(config))
    tested = [row for row in rows(run) if "eval_pass@1" in row]
    assert [row["epoch"] for row in tested] == list(range(7))
    assert tested[0]["eval_pass@1"] == pytest.approx(0.1, abs=0.05), "from random weights"
    assert tested[-1]["eval_pass@1"] > 0.3
    assert all(row["eval_pass@4"] > row["eval_pass@1"] for row in tested)
    trained = [row for row in rows(run) if "p_correct" in row]
    assert [row["step"] for row in trained] == list(range(3, 193, 3))
    last = trained[-1]
    assert last["success_rate"] == pytest.approx(last["p_correct"], abs=0.05)
    assert 0 <= last["frac_reward_zero_mean"] < trained[0]["frac_reward_zero_mean"] + 0.2
    summary = json.loads((run.folder / "run.json").read_text())
    assert summary["evaluation"]["pass_at_k"]["1"] == tested[-1]["eval_pass@1"]
    assert (summary["arm"], summary["seed"], summary["steps"]) == ("maxrl@32", 0, 192)
    assert "device" in json.loads((run.folder / "environment.json").read_text())


def test_equal_seeds_start_from_equal_weights_on_equal_batches(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(logging_steps=1)
    first = {}
    for arm in ("cross_entropy", "maxrl@8"):
        run = a_run(config, tmp_path / arm, arm)
        train_run(run, config, load_data(config))
        first[arm] = rows(run)[:2]
    assert first["cross_entropy"][0] == first["maxrl@8"][0], "tested before the first step"
    assert first["cross_entropy"][1]["p_correct"] == first["maxrl@8"][1]["p_correct"]
    other = a_run(config, tmp_path / "other", "cross_entropy", seed=1)
    train_run(other, config, load_data(config))
    assert rows(other)[0]["eval_nll"] != first["cross_entropy"][0]["eval_nll"], (
        "other weights, the same test set"
    )


def test_the_learning_rate_falls_as_a_cosine(make_config: MakeConfig) -> None:
    cosine, constant = (
        make_config(learning_rate=0.4),
        make_config(learning_rate=0.4, lr_scheduler_type="constant"),
    )
    found = [learning_rate(cosine, step, 100) for step in (0, 25, 50, 100)]
    assert found == pytest.approx([0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.0])
    assert learning_rate(constant, 50, 100) == 0.4


@pytest.mark.parametrize("field", ["momentum", "weight_decay", "learning_rate"])
def test_the_optimizer_gets_what_was_asked_for(make_config: MakeConfig, tmp_path: Path, field: str) -> None:
    found = []
    for value in (0.1, 0.2):
        config = make_config(num_train_epochs=1, **{field: value})
        run = a_run(config, tmp_path / str(value), "cross_entropy")
        train_run(run, config, load_data(config))
        found.append(weights(run))
    assert not same(*found)


@pytest.mark.parametrize("name", ["mlp", "tiny"])
def test_equal_seeds_make_equal_models_whatever_the_global_state(name: str) -> None:
    def made(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(1)
        before = torch.random.get_rng_state()
        model = build_model(name, inputs=12, classes=3, hidden_size=8, num_layers=1, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert model(torch.zeros(2, 3, 2, 2)).shape == (2, 3)
        return model.state_dict()

    assert same(made(0), made(0))
    assert not same(made(0), made(1))


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet50'"):
        build_model("resnet51", inputs=1, classes=2, hidden_size=1, num_layers=0, seed=0)


def test_resnet50_is_resnet50() -> None:
    """25,557,032 parameters with 1,000 classes; on the meta device none of them costs anything."""
    with torch.device("meta"):
        model = RESNETS["resnet50"](1000)
    assert sum(p.numel() for p in model.parameters()) == 25_557_032


def test_a_step_without_signal_moves_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    """Where weight decay alone would move the weights."""
    config = make_config(weight_decay=0.5, num_classes=2000, logging_steps=4, num_train_epochs=1)
    run = a_run(config, tmp_path / "run", "maxrl@2")
    train_run(run, config, load_data(config))
    trained = [row for row in rows(run) if "p_correct" in row]
    assert trained[0]["frac_reward_zero_mean"] == 1.0, "two draws among 2,000 labels: no image of 32 was hit"
    assert trained[0]["steps_without_signal"] == 1.0
    tests = [row for row in rows(run) if "eval_nll" in row]
    assert tests[0]["eval_nll"] == tests[-1]["eval_nll"]


def test_logits_that_are_no_numbers_end_a_run(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(learning_rate=1e30)
    run = a_run(config, tmp_path / "run")
    with pytest.raises(Diverged, match=r"logits are not finite at step \d+ of run; lower the learning_rate"):
        train_run(run, config, load_data(config))
    assert not run.done


@pytest.mark.parametrize("arm", ["cross_entropy", "maxrl@8"])
def test_a_run_whose_last_update_diverges_is_not_done(
    make_config: MakeConfig, tmp_path: Path, arm: str
) -> None:
    """No logits of training follow it: the test set alone shows it."""
    config = make_config(learning_rate=1e30, train_examples=8, num_train_epochs=1)
    run = a_run(config, tmp_path / "run", arm)
    says = "the log-likelihood of the test set is not finite at step 1 of run; lower the learning_rate"
    with pytest.raises(Diverged, match=says):
        train_run(run, config, load_data(config))
    assert not run.done
    assert "NaN" not in (run.folder / "metrics.jsonl").read_text()


def test_bfloat16_is_another_rounding_of_the_same_run(make_config: MakeConfig, tmp_path: Path) -> None:
    found = []
    for bf16 in (False, True):
        config = make_config(bf16=bf16)
        run = a_run(config, tmp_path / str(bf16), "cross_entropy")
        train_run(run, config, load_data(config))
        found.append(weights(run))
    assert not same(*found)
    assert all(tensor.dtype == torch.float32 for tensor in found[1].values())
    assert all(torch.allclose(found[0][name], found[1][name], atol=0.05) for name in found[0])

"""`maxrl eval` measures the weights it was asked for, or says why it cannot."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.smallest import write_recipe

from maxrl.cli import main
from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.experiments.store import StoredRun

pytestmark = pytest.mark.usefixtures("workplace")

LORA = {"use_peft": "true", "lora_target_modules": "[q_proj, v_proj]", "eval_before_training": "false"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Two runs of four steps, `full` and `lora`, with checkpoints at steps 2 and 4."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXRL_CACHE", str(cache))
        patch.setenv("OMP_NUM_THREADS", "1")
        for name, fields in {"full": {"eval_before_training": "false"}, "lora": LORA}.items():
            recipe = str(write_recipe(folder, max_steps=4, **fields))
            assert main(["train", "--config", recipe, "--output_dir", str(folder / name), "-q"]) == 0
    return folder


@pytest.fixture
def lora(made: Path, workplace: Path) -> Path:
    """A copy of the run with an adapter."""
    return Path(shutil.copytree(made / "lora", workplace / "lora"))


@pytest.fixture
def full(made: Path, workplace: Path) -> Path:
    """A copy of the run that trained all weights."""
    return Path(shutil.copytree(made / "full", workplace / "full"))


def refuses(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The line that says why; nothing was measured."""
    capsys.readouterr()
    assert main(["eval", *words, "-q"]) == 2
    streams = capsys.readouterr()
    lines = streams.err.strip().splitlines()
    assert len(lines) == 1, streams.err
    assert streams.out == ""
    return lines[0]


def test_a_run_and_its_checkpoint_are_measured(lora: Path) -> None:
    assert main(["eval", "lora", "-q"]) == 0
    run, evaluated = (Evaluation.load(lora / name) for name in ("eval.json", "evals/eval.json"))
    assert evaluated.problems == run.problems
    assert main(["eval", "lora/checkpoint-2", "-q"]) == 0
    assert (lora / "checkpoint-2" / "evals" / "eval.json").is_file()
    assert main(["eval", "lora/checkpoint-4", "-q"]) == 0
    assert Evaluation.load(lora / "checkpoint-4/evals/eval.json").problems == run.problems


def advice(capsys: pytest.CaptureFixture[str], folder: str) -> list[str]:
    """The words of the command that a damaged file's message gives."""
    capsys.readouterr()
    assert main(["runs", "show", folder]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return shlex.split(line.split("`")[1])[1:]


@pytest.mark.parametrize("text", ['{"problems', "{}"])
def test_the_advice_for_a_damaged_evaluation_mends_it(
    full: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    whole = Evaluation.load(full / "eval.json")
    (full / "eval.json").write_text(text)
    assert main([*advice(capsys, "full"), "-q"]) == 0
    assert Evaluation.load(full / "eval.json").problems == whole.problems
    assert main(["runs", "show", "full"]) == 0


def test_the_advice_for_a_damaged_evaluation_of_a_comparisons_start_mends_it(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = full.parent / "before"
    before.mkdir()
    shutil.copy(full / "config.yaml", before)
    (before / "eval.json").write_text("{")
    with pytest.raises(InputError) as caught:
        _ = StoredRun(before).evaluation
    words = shlex.split(str(caught.value).split("`")[1])[1:]
    assert main([*words, "-q"]) == 0
    assert StoredRun(before).evaluation is not None


def test_the_advice_for_a_damaged_end_of_a_run_mends_it(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, whole = json.loads((full / "run.json").read_text()), Evaluation.load(full / "eval.json")
    (full / "run.json").write_text('{"estim')
    words = advice(capsys, "full")
    (full / "run.json").unlink()
    assert main([*words, "-q"]) == 0
    again = json.loads((full / "run.json").read_text())
    assert (again["pass_at_k"], again["steps"]) == (summary["pass_at_k"], summary["steps"])
    assert Evaluation.load(full / "eval.json").problems == whole.problems


def test_an_adapter_without_weights_is_no_base_model(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lora / "adapter_model.safetensors").unlink()
    line = refuses(capsys, "lora")
    assert (
        "lora holds an adapter's configuration, but not its weights (adapter_model.safetensors is missing)"
        in line
    )
    assert "its base model alone would be measured. Measure its last checkpoint (lora/checkpoint-4)" in line
    assert line == refuses(capsys, "--model_name_or_path", "lora", "--config", "lora/config.yaml")
    (lora / "checkpoint-4" / "adapter_model.safetensors").unlink()
    assert "lora/checkpoint-4 holds an adapter's configuration" in refuses(capsys, "lora/checkpoint-4")


def test_an_adapter_that_lacks_some_weights_is_refused(
    lora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lora / "adapter_model.safetensors"
    weights = load_file(path)
    renamed = {name.replace("q_proj", "k_proj"): value for name, value in weights.items()}
    save_file(renamed, path, metadata={"format": "pt"})
    assert f"adapter_model.safetensors lacks {len(weights) // 2} of the adapter's weights" in refuses(
        capsys, "lora"
    )
    save_file({}, path, metadata={"format": "pt"})
    assert "adapter_model.safetensors holds no weights" in refuses(capsys, "lora")


def test_the_base_of_an_adapter_must_be_there(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = lora / "adapter_config.json"
    fields = json.loads(config.read_text())
    config.write_text(json.dumps({**fields, "base_model_name_or_path": "/gone/base"}))
    assert "an adapter of the model in /gone/base, which does not exist (any more)" in refuses(capsys, "lora")


@pytest.mark.parametrize("name", ["full", "lora"])
def test_weights_that_were_cut_off(
    name: str, made: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(made / name, workplace / name))
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{name}/{path.name} is damaged or was cut off" in refuses(capsys, name)


def test_weights_that_are_missing(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (full / "model.safetensors").unlink()
    assert "full holds no weights (model.safetensors is missing)" in refuses(capsys, "full")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (full / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copy(full / "checkpoint-4" / "model.safetensors", full / "model-1.safetensors")
    assert "lacks a part of the model's weights (model-2.safetensors)" in refuses(capsys, "full")
    (full / "model.safetensors.index.json").write_text("{")
    assert "model.safetensors.index.json is damaged" in refuses(capsys, "full")


def test_a_checkpoint_that_was_removed(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(full / "checkpoint-2")
    line = refuses(capsys, "full/checkpoint-2")
    assert "full has no checkpoint-2 (it has checkpoint-4)" in line
    assert "Measure its last checkpoint (full/checkpoint-4)" in line
    shutil.rmtree(full / "checkpoint-4")
    assert "(it has none): save_total_limit, keep_checkpoints" in refuses(capsys, "full/checkpoint-2")
    assert "run folder nowhere does not exist" in refuses(capsys, "nowhere")


def test_a_run_that_is_not_done_has_no_model(
    made: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where an earlier run of the same folder had left one: a claim removes it."""
    recipe = str(write_recipe(workplace, max_steps=4, eval_before_training="false"))
    shutil.copytree(made / "full", workplace / "again")
    words = ["train", "--config", recipe, "--output_dir", "again", "-q"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maxrl.experiments.runs.prepare_policy", _interrupted)
        assert main([*words, "--resume_from_checkpoint", "true"]) == 1
    line = refuses(capsys, "again")
    assert "the run in again (stopped) holds no model" in line or "again holds no weights" in line
    assert "Measure its last checkpoint (again/checkpoint-4), or finish the run" in line
    assert main(["eval", "again/checkpoint-4", "-q"]) == 0


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_stages_have_models_of_their_own(
    made: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made / "full", workplace / "staged" / "stage-1")
    (workplace / "staged" / "run.json").write_text("{}")
    shutil.copy(made / "full" / "config.yaml", workplace / "staged")
    assert (
        "a run of stages, each with a model of its own: name the folder of one of them (staged/stage-1 is"
        in (refuses(capsys, "staged"))
    )

"""The smallest experiment that runs end to end."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maxrl.experiments.classification.config import ClassifyConfig
from maxrl.experiments.classification.measures import Measures
from maxrl.experiments.classification.summary import Results, RunResult

MakeConfig = Callable[..., ClassifyConfig]


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """A config of three epochs of four steps, with fields changed."""

    def make(**fields: object) -> ClassifyConfig:
        small = {
            "arms": ["cross_entropy", "maxrl@8"],
            "seeds": [0],
            "num_classes": 6,
            "input_size": 5,
            "train_examples": 32,
            "test_examples": 40,
            "hidden_size": 8,
            "num_layers": 1,
            "num_train_epochs": 3,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 16,
            "eval_ks": [1, 4],
            "logging_steps": 3,
            "save_steps": 5,
            "cpu_threads": 1,
            "output_dir": str(tmp_path / "out"),
        }
        return ClassifyConfig(**{**small, **fields})

    return make


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of pictures, told apart by their colour, of odd sizes, one of them grey and one with an alpha channel."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 5)):
        for label, name in enumerate(("blue", "red")):
            for index in range(count):
                pixels = rng.integers(0, 80, (20 + index, 37 - index, 3), dtype=np.uint8)
                pixels[:, :, 0 if name == "red" else 2] += 150
                image = Image.fromarray(pixels)
                if index == 1:
                    image = image.convert("L" if label else "RGBA")
                (root / split / name).mkdir(parents=True, exist_ok=True)
                image.save(root / split / name / f"{index}.{'PNG' if index % 2 else 'png'}")
    (root / "train" / "blue" / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture
def results() -> Results:
    """Two seeds of three arms, one of whose runs diverged, with numbers that can be added up by head."""

    def measures(pass_1: float, pass_128: float, top_1: float) -> Measures:
        return Measures(pass_at_k={1: pass_1, 128: pass_128}, top_1=top_1, nll=1.0)

    def run(arm: str, seed: int, *after: float, error: str | None = None) -> RunResult:
        name = arm.replace("@", "-n")
        metrics = [
            {"step": 2 * epoch, "epoch": float(epoch), "eval_pass@1": 0.1 * epoch + 0.01 * seed}
            for epoch in range(3)
        ]
        return RunResult(
            arm=arm,
            seed=seed,
            folder=f"{name}-seed{seed}",
            evaluation=measures(*after) if after else None,
            error=error,
            training_seconds=10.0 * (seed + 1),
            metrics=tuple(metrics[: 3 if seed == 0 else 2]),
        )

    return Results(
        title="Classes <b> & |pipes|",
        command="maxrl classify --arms cross_entropy 'maxrl@16'",
        settings={
            "eval_ks": [128, 1],
            "data": "synthetic",
            "model": "mlp",
            "learning_rate": 0.1,
            "fresh_examples": True,
        },
        arms=("cross_entropy", "maxrl@16", "reinforce@128", "grpo@2"),
        best=measures(0.8, 0.99, 0.87),
        classes=100,
        runs=(
            run("cross_entropy", 0, 0.5, 0.9, 0.6),
            run("maxrl@16", 0, 0.44, 0.8, 0.61),
            run("reinforce@128", 0, 0.011, 0.7, 0.01),
            run("grpo@2", 0, error="logits are not finite <at> step 3"),
            run("cross_entropy", 1, 0.52, 0.92, 0.64),
            run("maxrl@16", 1, 0.48, 0.84, 0.63),
            run("reinforce@128", 1, 0.013, 0.72, 0.02),
            run("grpo@2", 1, error="logits are not finite <at> step 3"),
        ),
        environment={"python": "3.11", "machine": "2 cores"},
    )

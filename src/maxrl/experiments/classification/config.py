"""Every option of `maxrl classify`: a YAML file, words that win over it, and what is refused before anything starts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args, get_origin

import torch

from maxrl.errors import InputError, unknown_name
from maxrl.experiments import fields as recipe_fields
from maxrl.experiments.classification.models import RESNETS, ModelName
from maxrl.experiments.classification.objective import Arm, parse_arm
from maxrl.experiments.recipe import Fields


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """What `maxrl classify` trains, on what and how; the defaults are recipes/classification_synthetic.yaml."""

    arms: list[str] = field(
        default_factory=lambda: [
            "cross_entropy",
            "maxrl@1024",
            "maxrl@128",
            "grpo@1024",
            "grpo@128",
            "reinforce@1024",
        ],
        metadata={
            "help": "What to compare: cross_entropy (exact maximum likelihood), or an estimator with the N labels that it "
            "draws per image, as maxrl@128 or maxrl(order=16)@64, or your own as module:function@128. The first is "
            "compared with each of the others."
        },
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2],
        metadata={"help": "Every arm is trained once with each: same weights, same batches."},
    )
    num_generations: int = field(
        default=128, metadata={"help": "N, labels drawn per image, of arms that name none."}
    )
    data: Literal["synthetic", "images", "folder"] = field(
        default="synthetic",
        metadata={
            "help": "synthetic: vectors made on the spot. images: the same as pictures, for the ResNets. folder: those of "
            "image_folder."
        },
    )
    image_folder: str | None = field(
        default=None,
        metadata={"help": "With data folder: a folder that holds train/CLASS/*.jpg and val/CLASS/*.jpg."},
    )
    image_size: int = field(default=224, metadata={"help": "Pixels on a side of an image."})
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that load images from a folder; 0: none beside this one."}
    )
    num_classes: int = field(default=1000, metadata={"help": "Classes that are made on the spot."})
    input_size: int = field(default=64, metadata={"help": "Dimensions of a vector that is made on the spot."})
    noise: float = field(
        default=1.2, metadata={"help": "How wide classes made on the spot are: higher is harder."}
    )
    train_examples: int = field(
        default=51_200, metadata={"help": "Examples of an epoch, where they are made on the spot."}
    )
    fresh_examples: bool = field(
        default=True,
        metadata={
            "help": "Make new examples for every epoch, from the same classes; false: the same ones every epoch."
        },
    )
    test_examples: int = field(
        default=5_000, metadata={"help": "Examples of the test set, where they are made on the spot."}
    )
    data_seed: int = field(
        default=0, metadata={"help": "Seed of the classes and of the test set; the same for all runs."}
    )
    model: ModelName = field(
        default="mlp",
        metadata={
            "help": "mlp: a small residual network on vectors. resnet50: from scratch. tiny: a ResNet of two stages; on the "
            "command line it turns any recipe into a trial of seconds, on images made on the spot or on --image_folder."
        },
    )
    hidden_size: int = field(default=256, metadata={"help": "Width of the mlp."})
    num_layers: int = field(default=2, metadata={"help": "Residual blocks of the mlp."})
    num_train_epochs: int = field(default=20, metadata={"help": "Passes over the training examples."})
    per_device_train_batch_size: int = field(default=256, metadata={"help": "Images of a step."})
    per_device_eval_batch_size: int = field(
        default=256, metadata={"help": "Images at a time in an evaluation."}
    )
    learning_rate: float = field(default=0.1, metadata={"help": "Of SGD, at the beginning."})
    lr_scheduler_type: Literal["cosine", "constant"] = field(
        default="cosine", metadata={"help": "cosine: down to 0 over the whole run, step by step."}
    )
    momentum: float = field(default=0.9, metadata={"help": "Of SGD."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Of SGD, on all weights."})
    eval_ks: list[int] = field(
        default_factory=lambda: [1, 8, 32, 128, 1024],
        metadata={"help": "Values of k for pass@k = 1 − (1 − p_y)^k."},
    )
    logging_steps: int = field(
        default=25,
        metadata={"help": "Steps between two rows of training metrics; the test set follows every epoch."},
    )
    save_steps: int = field(default=1000, metadata={"help": "Steps between two checkpoints."})
    device: str = field(
        default="auto", metadata={"help": "auto: cuda where there is one, else cpu; or cpu, cuda, cuda:1 …"}
    )
    bf16: bool = field(
        default=False,
        metadata={"help": "Compute the network in bfloat16; softmax, loss and weights stay in float32."},
    )
    cpu_threads: int | None = field(
        default=None,
        metadata={"help": "Threads on a CPU; by default OMP_NUM_THREADS, if set, else as measured."},
    )
    output_dir: str | None = field(
        default=None,
        metadata={
            "help": "A folder per run, and the report; by default runs/classification-DATA-MODEL, where DATA is the name of "
            "image_folder, if there is one."
        },
    )
    resume_from_checkpoint: bool = field(
        default=False,
        metadata={
            "help": "Keep the runs in output_dir that are done, and go on with those that were interrupted."
        },
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Replace the runs that output_dir already holds."}
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            allowed = get_args(item.type) if get_origin(item.type) is Literal else ()
            if allowed and getattr(self, item.name) not in allowed:
                raise unknown_name(item.name, str(getattr(self, item.name)), allowed)
        self._check_lists()
        self._check_numbers()
        self._check_data()
        if self.resume_from_checkpoint and self.overwrite_output_dir:
            raise InputError(
                "resume_from_checkpoint keeps what overwrite_output_dir replaces: leave one of them out"
            )
        if self.output_dir is None:
            data = Path(self.image_folder).resolve().name if self.image_folder else self.data
            object.__setattr__(self, "output_dir", f"runs/classification-{data}-{self.model}")

    def _check_lists(self) -> None:
        for name in ("arms", "seeds", "eval_ks"):
            values = getattr(self, name)
            if not values:
                raise InputError(f"{name} must name at least one")
            if len(set(values)) < len(values):
                raise InputError(f"{name} names something twice: {', '.join(map(str, values))}")
        names = [arm.name for arm in self.parsed_arms]
        if len(set(names)) < len(names):
            raise InputError(f"arms names something twice: {', '.join(names)}")
        if min(self.eval_ks) < 1:
            raise InputError(f"eval_ks must be at least 1, but one is {min(self.eval_ks)}")
        if 1 not in self.eval_ks:
            raise InputError(
                "eval_ks must hold 1: pass@1, the mean p_y, is what all else is measured against"
            )

    def _check_numbers(self) -> None:
        least = {
            "num_classes": 2,
            **dict.fromkeys(("dataloader_num_workers", "num_layers", "data_seed"), 0),
            **dict.fromkeys(_COUNTS, 1),
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name} must be at least {low}, but is {getattr(self, name)}")
        if self.cpu_threads is not None and self.cpu_threads < 1:
            raise InputError(f"cpu_threads must be at least 1, but is {self.cpu_threads}")
        if min(self.seeds) < 0:
            raise InputError(f"seeds must be at least 0, but one is {min(self.seeds)}")
        for name in ("noise", "learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be a number above 0, but is {getattr(self, name)}")
        for name in ("momentum", "weight_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 0 and below 1, but is {getattr(self, name)}")

    def _check_data(self) -> None:
        if (self.data == "folder") != (self.image_folder is not None):
            raise InputError(
                "data folder and image_folder go together: give both, as --data folder --image_folder imagenet, or neither"
            )
        if self.model in RESNETS and self.data == "synthetic":
            raise InputError(
                f"model {self.model} takes images: say --data images (made on the spot), or folder"
            )
        if self.data != "folder" and self.train_examples < self.per_device_train_batch_size:
            raise InputError(
                f"train_examples ({self.train_examples}) must fill one batch of {self.per_device_train_batch_size}"
            )

    @cached_property
    def parsed_arms(self) -> tuple[Arm, ...]:
        """The arms, in order."""
        return tuple(parse_arm(spec, self.num_generations) for spec in self.arms)

    @property
    def root(self) -> Path:
        """Where the runs and the report go."""
        assert self.output_dir is not None, "it is set when the options are checked"
        return Path(self.output_dir)

    def torch_device(self) -> torch.device:
        """The device that `device` names.

        Raises:
            InputError: it is not there, or of a kind that this experiment does not run on.
        """
        found = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(found if self.device == "auto" else self.device)
        except RuntimeError as error:
            raise InputError(f"device {self.device!r} is none; say auto, cpu, cuda or cuda:1") from error
        if device.type not in ("cpu", "cuda"):
            raise InputError(
                f"device {self.device} cannot be used: labels are drawn in float64, for which say auto, cpu, cuda or cuda:1"
            )
        if device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device {self.device} is not there: torch sees no GPU (maxrl doctor says more)")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise InputError(
                f"device {self.device} is not there: torch sees {count}, cuda:0 to cuda:{count - 1}"
            )
        return device


_COUNTS = (
    "num_generations",
    "image_size",
    "input_size",
    "train_examples",
    "test_examples",
    "hidden_size",
    "num_train_epochs",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "logging_steps",
    "save_steps",
)

_MAY_BE_NULL = ("image_folder", "cpu_threads", "output_dir")

TRIAL: Fields = {
    "data": "images",
    "image_folder": None,
    "image_size": 32,
    "num_classes": 20,
    "train_examples": 128,
    "test_examples": 128,
    "per_device_train_batch_size": 32,
    "num_train_epochs": 2,
    "dataloader_num_workers": 0,
    "logging_steps": 1,
    "save_steps": 4,
    "bf16": False,
}
"""What `--model tiny` makes of a recipe: eight steps a run, each setting still open to the command line."""


def read_config(argv: Sequence[str]) -> tuple[ClassifyConfig, Fields]:
    """The options from command-line words, which may name a YAML file with `--config`; the words win over the file.

    Returns:
        The options, and those of `TRIAL` that `--model tiny` set, so that they can be said.

    Raises:
        InputError: an unknown option (with the nearest known one), a value of the wrong type, a missing file, or
            values that contradict each other.
    """
    path, words = recipe_fields._take_config(argv)
    parser = recipe_fields._parser([ClassifyConfig])
    from_file = recipe_fields._typed(recipe_fields._load_yaml(path), parser, path) if path else {}
    for name, value in from_file.items():
        if value is None and name not in _MAY_BE_NULL:
            raise InputError(f"{path}: {name} must not be null; leave it out for its default")
    from_words = recipe_fields._parse(parser, words, None)
    trial: Fields = {}
    if from_words.get("model") == "tiny":
        trial = {name: value for name, value in TRIAL.items() if name not in from_words}
        if "image_folder" in from_words:
            trial["data"] = "folder"
    given = {**from_file, **trial, **from_words}
    return ClassifyConfig(**given), {
        name: value for name, value in trial.items() if from_file.get(name) != value
    }


def help_text(prog: str) -> str:
    """Every option, with its default."""
    parser = recipe_fields._parser([ClassifyConfig])
    recipe_fields._show_only(parser, [item.name for item in fields(ClassifyConfig)])
    text = parser.format_help().split("options:", 1)[1]
    kept = "\n".join(line for line in text.splitlines() if "show this help" not in line)
    return f"usage: {prog} [--config RECIPE.yaml] [--dry-run] [-q] [--OPTION VALUE …]\n\noptions:{kept}"


def resolved(config: ClassifyConfig) -> Fields:
    """Every field, such that a file of them is the same experiment; how the process was started is no part of it."""
    return {
        name: value
        for name, value in asdict(config).items()
        if name not in ("resume_from_checkpoint", "overwrite_output_dir")
    }

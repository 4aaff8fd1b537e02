"""How jobs on Hugging Face are made: hardware, time, image, secrets."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import get_token
from huggingface_hub.utils._dotenv import load_dotenv  # the one behind `hf jobs run --secrets-file`

from maxrl.errors import InputError
from maxrl.experiments.grids.hf_work import MIRROR_VARIABLE
from maxrl.experiments.grids.sizes import named_parameters
from maxrl.experiments.grids.work import RUN_VARIABLE
from maxrl.experiments.recipe import Fields

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LABELS_OF_OURS = ("name", "maxrl-grid", "maxrl-run")
# Full training in single precision with AdamW takes 16 bytes a parameter: (billions of parameters, flavor), smallest first.
_FLAVORS = ((1.0, "a10g-small"), (2.0, "l40sx1"), (4.0, "a100-large"), (8.2, "h200"))


@dataclass(frozen=True, kw_only=True)
class HfJobsOptions:
    """How jobs on Hugging Face are made.

    Raises:
        InputError: a value that the service would refuse, or a secrets file that is not there.
    """

    flavor: str = field(
        default="auto",
        metadata={"help": "hardware of a job, as `hf jobs hardware` lists it; auto: by the model's size"},
    )
    timeout: str = field(default="4h", metadata={"help": "longest that a job may take, as 90m or 4h"})
    attempts: int = field(
        default=1,
        metadata={"help": "times that the service runs a job that fails, the first one included"},
    )
    env: dict[str, str] | None = field(
        default=None,
        metadata={"help": "environment of the jobs; readable for whoever may see them"},
    )
    secrets_file: str | None = field(
        default=None,
        metadata={
            "help": "a .env file whose variables the jobs get as secrets; a bare NAME takes the value it has here"
        },
    )
    namespace: str | None = field(
        default=None,
        metadata={"help": "user or organisation that the jobs belong to; by default the token's user"},
    )
    bucket: str = field(
        default="maxrl-runs",
        metadata={
            "help": "storage bucket that the runs go to, in the namespace or as owner/name; made, private, where it is "
            "not there"
        },
    )
    image: str = field(
        default="ghcr.io/astral-sh/uv:python3.12-bookworm",
        metadata={
            "help": "Docker image of the jobs, with Python 3.11 or later and, unless package is empty, uv"
        },
    )
    package: str | None = field(
        default=None,
        metadata={
            "help": "requirement by which a job installs maxrl, as maxrl @ git+https://…@COMMIT; empty: the image has it. "
            "It must be given: the job gets your secrets"
        },
    )
    labels: dict[str, str] | None = field(
        default=None, metadata={"help": "labels of the jobs, besides those of the grid"}
    )
    collect_checkpoints: bool = field(
        default=False,
        metadata={
            "help": "whether to fetch checkpoints, too, when a run is collected; the final model is always fetched"
        },
    )

    def __post_init__(self) -> None:
        seconds(self.timeout)
        if self.attempts < 1:
            raise InputError(f"attempts must be at least 1, but is {self.attempts}")
        if not re.fullmatch(r"([\w.-]+/)?[\w.-]+", self.bucket):
            raise InputError(f"bucket must be a name, or owner/name, but is {self.bucket!r}")
        for name, value in (self.labels or {}).items():
            if name in _LABELS_OF_OURS:
                raise InputError(f"the label {name} is set for each run; choose another name")
            if not re.fullmatch(r"[\w.-]*", str(value)):
                raise InputError(
                    f"label {name} may have letters, digits and . _ - in it, but is {str(value)!r}"
                )
        for name in (RUN_VARIABLE, MIRROR_VARIABLE):
            if name in (self.env or {}):
                raise InputError(f"{name} in env is set for each run; leave it out")
        self.secrets()

    def secrets(self) -> dict[str, str]:
        """The variables of the secrets file; empty without one.

        Raises:
            InputError: there is no such file, or a line of it cannot be read. No value is ever in a message.
        """
        if self.secrets_file is None:
            return {}
        path = Path(self.secrets_file).expanduser()
        if not path.is_file():
            raise InputError(f"secrets_file {path} does not exist; give a .env file with lines NAME=VALUE")
        token = get_token()
        here = {**os.environ, **({"HF_TOKEN": token} if token else {})}
        found: dict[str, str] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip() and not line.strip().startswith("#"):
                read = load_dotenv(line, environ=here)
                if not read:
                    raise InputError(
                        f"{path}, line {number}: neither NAME=VALUE nor the name of a variable that is set here"
                    )
                found.update(read)
        return found


def seconds(duration: str) -> int:
    """Seconds of a duration as Hugging Face Jobs take it: `90m`, `4h`, `1.5d`, or a number of seconds.

    Raises:
        InputError: it is none, or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(duration).strip())
    found = int(float(match[1]) * _SECONDS[match[2]]) if match else 0
    if found < 1:
        raise InputError(
            f"timeout must be a number with s, m, h or d after it, as 90m or 4h, but is {duration!r}"
        )
    return found


def flavor_for(fields: Fields) -> str:
    """Hardware on which the model of a run can be trained, by the size in its name.

    Raises:
        InputError: the name says no size, or one that no single GPU of the service holds.
    """
    model = str(fields.get("model_name_or_path") or "tiny")
    if model == "tiny":
        return "cpu-basic"
    size = named_parameters(model)
    if size is None:
        raise InputError(f"the name {model} does not say how large the model is; choose hardware with flavor")
    for most, flavor in _FLAVORS:
        if size <= most * 1e9:
            return flavor
    raise InputError(
        f"{model} is too large for full training on one GPU of the service; choose hardware with flavor (h200 may do "
        "with use_peft), and see docs/grid-places.md"
    )

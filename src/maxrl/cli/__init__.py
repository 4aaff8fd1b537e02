"""The command line: `maxrl train | eval | compare | grid | runs | report | watch | …`, see `COMMANDS`.

Exit status: 0 done, 2 bad input (one line says what and what to do), 1 failure.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from maxrl.errors import InputError, MaxRLError, unknown_name

COMMANDS = {
    "train": "train a model on a task, or on a data set with reward functions",
    "eval": "sample a model on a task: pass@k with intervals, greedy accuracy",
    "compare": "train several estimators from one warm start and write a report",
    "grid": "many runs from one spec: here, on Ray, Slurm, Hugging Face Jobs",
    "runs": "the runs on disk: list, show, diff",
    "report": "one page on any number of runs",
    "watch": "how a run stands, in the terminal",
    "probe": "sample a model before training it: will training have signal?",
    "simulate": "MaxRL and GRPO race on a toy problem, in a second",
    "inspect": "what an estimator really optimises; its advantages on your rewards",
    "tasks": "what can be trained on: list, show problems, check the verifiers",
    "classify": "the paper's image classification, where the likelihood is known",
    "doctor": "versions, devices, logins: what is there, what is missing for what",
}

USAGE = "\n".join(
    [
        "usage: maxrl COMMAND [options]      (maxrl COMMAND --help explains its options)",
        "",
        *(f"  {name:<10}{text}" for name, text in COMMANDS.items()),
        "",
        "  maxrl --version",
        "",
        "Start here:  maxrl compare --config recipes/subset_sum_tiny.yaml",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if words else 2
    if words[0] == "--version":
        print(f"maxrl {import_module('maxrl').__version__}")
        return 0
    # Libraries that come with the training stack otherwise phone home and count visitors.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        if words[0] not in COMMANDS:
            raise unknown_name("command", words[0], COMMANDS)
        return import_module(f"maxrl.cli.{words[0]}").run(words[1:])
    except InputError as error:
        return _complain(error, 2)
    except MaxRLError as error:
        return _complain(error, 1)
    except BrokenPipeError:  # the reader of a pipe left, as `| head` does
        sys.stderr.close()
        return 1
    except OSError as error:  # a path that cannot be read or written
        return _complain(error, 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 1)


def _complain(error: object, status: int) -> int:
    line = " ".join(str(error).split())
    print(f"maxrl: {'error' if status == 2 else 'failed'}: {line}", file=sys.stderr)
    return status

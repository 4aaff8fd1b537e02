"""`maxrl train` whose evaluations take longer than processes wait for each other."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch

from maxrl.cli import main
from maxrl.experiments import periodic, runs

WAIT, SECONDS = 5, 8
"""How long processes wait, and how long an evaluation takes."""


def slowly(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(SECONDS)
        return evaluate(*arguments, **options)

    return slow


if __name__ == "__main__":
    # On processors transformers does not hand `ddp_timeout` on.
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=WAIT))
    runs.evaluate_policy = slowly(runs.evaluate_policy)
    periodic.evaluate = slowly(periodic.evaluate)
    sys.exit(main())

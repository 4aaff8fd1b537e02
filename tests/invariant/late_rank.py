"""`maxrl train` with a second rank that comes late to everything behind the making of its trainer."""

import os
import sys
import time
from typing import Any

from maxrl.cli import main
from maxrl.experiments import runs

SECONDS = 4
"""Longer than the first rank needs to evaluate the smallest model."""

make_trainer = runs._trainer


def late(*arguments: Any) -> Any:
    trainer = make_trainer(*arguments)
    time.sleep(SECONDS if os.environ["RANK"] == "1" else 0)
    return trainer


if __name__ == "__main__":
    runs._trainer = late
    sys.exit(main())

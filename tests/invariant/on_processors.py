"""accelerate spreads weights (FSDP2) over accelerators alone, and torch over processors, too: here they count as such.

Run as a program it is `maxrl`.
"""

import sys
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from maxrl.cli import main


def count_as_accelerators() -> None:
    """Have accelerate see several processes on processors as such on GPUs."""
    make = PartialState.__init__

    def made(self: PartialState, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = made


if __name__ == "__main__":
    count_as_accelerators()
    sys.exit(main(sys.argv[1:]))

"""`maxrl train` whose second rank sees no checkpoint: its disk is another one, or behind."""

import os
import sys

from maxrl.cli import main
from maxrl.experiments import folders

if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        folders.last_checkpoint = lambda _: None
    sys.exit(main())

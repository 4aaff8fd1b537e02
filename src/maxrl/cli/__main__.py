"""`python -m maxrl.cli`, for `accelerate launch -m maxrl.cli train …`."""

import sys

from maxrl.cli import main

if __name__ == "__main__":
    sys.exit(main())

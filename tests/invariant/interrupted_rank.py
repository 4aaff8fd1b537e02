"""`maxrl train` whose ranks get Ctrl-C at different moments: the second after step 2, the first while it saves.

The first rank has something to finish after training, for longer than a launcher needs to end it for another's end.
"""

import os
import signal
import sys
import time
from typing import Any

from transformers import TrainerCallback

from maxrl.cli import main
from maxrl.experiments import runs

make_trainer = runs._trainer


class PressCtrlC(TrainerCallback):
    """Comes before `StopOnInterrupt`, which is added later."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.process_index == 1 and state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.process_index == 0:
            os.kill(os.getpid(), signal.SIGINT)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        time.sleep(3 if args.process_index == 0 else 0)


def interrupted(*arguments: Any) -> Any:
    trainer = make_trainer(*arguments)
    trainer.add_callback(PressCtrlC())
    return trainer


if __name__ == "__main__":
    runs._trainer = interrupted
    sys.exit(main())

"""Processes that wait while the first one does something alone."""

from datetime import timedelta

import torch.distributed


class Patience:
    """Waits for all processes for as long as it takes.

    What training meets by has a limit (`ddp_timeout`, half an hour by default), after which a process counts as lost; an
    evaluation in the first process may take longer. Made by all processes together.
    """

    def __init__(self) -> None:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        self._group = (
            torch.distributed.new_group(backend="gloo", timeout=timedelta(days=365)) if several else None
        )

    def wait_for_everyone(self) -> None:
        """Return when all processes have come here."""
        if self._group is not None:
            torch.distributed.barrier(self._group)

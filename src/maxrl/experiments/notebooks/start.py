"""What a notebook does before it imports anything that trains."""

from transformers import utils


def leave_out_jupyter() -> None:
    """Let transformers draw no progress bars of Jupyter's in this process, and import nothing for them.

    It takes every process with marimo in it for a Jupyter kernel (5.23 does), and its trainer then cannot be imported where
    IPython is not installed. Runs draw their progress themselves.
    """
    utils.is_in_notebook = lambda: False

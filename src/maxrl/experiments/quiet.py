"""Libraries that talk too much."""

import logging
import warnings

import datasets
import transformers


def quiet_libraries() -> None:
    """Hide progress bars and deprecation notes that are not about the user's own doing."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|torch|peft)\.")
    warnings.filterwarnings("ignore", category=DeprecationWarning)

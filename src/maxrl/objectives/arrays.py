"""Numbers in any container → a tensor, or an `InputError` that says what is wrong with them."""

import operator
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import torch
from torch import Tensor

from maxrl.errors import InputError

ArrayLike: TypeAlias = Any
"""A number, a (nested) list or tuple, a numpy array or a tensor: checked where it is read."""


def to_tensor(values: ArrayLike, what: str) -> Tensor:
    """`values` as a detached tensor that keeps their dtype: bool, integer or floating point.

    Python floats become float64, None becomes NaN. A tensor is returned without a copy: callers never write
    into the result. `what` names the values in error messages.

    >>> to_tensor([[1, None], [0.5, 2]], "rewards")
    tensor([[1.0000,    nan],
            [0.5000, 2.0000]], dtype=torch.float64)
    """
    if isinstance(values, Tensor):
        if values.is_complex():
            raise InputError(f"{what} must be real numbers, got a tensor of {values.dtype}")
        return values.detach()
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":  # None among the numbers, or no numbers at all
            array = np.array([np.nan if v is None else v for v in array.flat]).reshape(array.shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{what} cannot be read as an array of numbers ({error}); give rows of equal length, with None "
            "or NaN where a value is missing"
        ) from error
    if array.size == 0 and array.dtype.kind != "b":
        array = array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what} must be numbers, got {values!r:.80}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # torch has no long double
        array = array.astype(np.float64)
    # A copy in the machine's byte order: torch shares memory with arrays, and refuses some memory layouts.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))  # pyright: ignore[reportUnknownMemberType]


def to_probabilities(values: ArrayLike) -> Tensor:
    """Pass rates as a float64 tensor; anything outside [0, 1] is refused."""
    p = to_tensor(values, "p").to(torch.float64)
    if not bool(((p >= 0) & (p <= 1)).all()):  # NaN fails too
        raise InputError(f"p must be pass rates between 0 and 1, got {values!r:.80}")
    return p


def to_count(value: object, what: str, *, least: int) -> int:
    """`value` as a Python int of at least `least`."""
    count = (
        operator.index(value) if isinstance(value, SupportsIndex) and not isinstance(value, bool) else None
    )
    if count is None or count < least:
        raise InputError(f"{what} must be an integer of at least {least}, got {value!r}")
    return count


def is_number(value: object) -> bool:
    """Whether an option is a real number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)

"""What the processor does well: precision, number of threads, memory."""

import ctypes
import os
import statistics
import time

import torch


def cpu_multiplies_bf16() -> bool:
    """Whether the processor has instructions for products in bfloat16; without them it is slower than float32."""
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def available_cores() -> int:
    """Processor cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_threads(most: int | None = None) -> int:
    """The number of threads, 1 or all, with which this process computes faster right now; about a tenth of a second.

    Two threads wait for each other after every operation. Where another program keeps one of the cores, each wait costs
    the scheduler's time slice, and a small model gets up to ten times slower than on one thread.

    Args:
        most: threads to compare with one; by default the cores this process may use.
    """
    cores = most or available_cores()
    if cores == 1:
        return 1
    before = torch.get_num_threads()
    try:
        alone, together = _seconds(1), _seconds(cores)
    finally:
        torch.set_num_threads(before)
    # A tie goes to one thread, which nothing can slow down.
    return cores if together < 0.9 * alone else 1


def _seconds(threads: int) -> float:
    """Of many small products and sums, as a small model makes them; the slower end, where waiting shows."""
    torch.set_num_threads(threads)
    rows, weights = torch.randn(512, 256), torch.randn(256, 256)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        for _ in range(3):
            rows = torch.nn.functional.silu(rows @ weights) * 0.1
        times.append(time.perf_counter() - start)
    return statistics.quantiles(times, n=10)[-1]


def keep_freed_memory() -> bool:
    """Have glibc keep what is freed for the next step, instead of giving it back to the system; whether it could.

    Every large tensor otherwise comes fresh from the system, page by page, and each page is cleared when it is first
    touched: half of the time of an update of a 0.5B model. The process then holds on to the most it ever had. Left alone
    where the environment already says how to allocate (`GLIBC_TUNABLES`, `MALLOC_…_`).
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    most = 2**31 - 1
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of <malloc.h>
    return bool(mallopt(-3, most)) and bool(mallopt(-1, most))

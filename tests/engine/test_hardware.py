"""The processor's own choices."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from maxrl.engine import choose_threads, cpu_multiplies_bf16, hardware


def test_one_thread_unless_several_are_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    for seconds, chosen in (({1: 1.0, 4: 0.5}, 4), ({1: 1.0, 4: 0.95}, 1), ({1: 1.0, 4: 3.0}, 1)):
        monkeypatch.setattr(hardware, "_seconds", seconds.__getitem__)
        assert choose_threads(4) == chosen
    assert choose_threads(1) == 1
    assert torch.get_num_threads() == before


def test_the_measurement_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    assert choose_threads(2) in (1, 2)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("capability", "mkldnn", "avx512", "amx", "faster"),
    [
        ("AVX512", True, True, False, True),
        ("AVX512", True, False, True, True),
        ("AVX512", True, False, False, False),
        ("AVX512", False, True, True, False),  # a library that makes no use of them
        ("DEFAULT", True, True, True, False),  # a caller that forbids them
    ],
)
def test_bf16_needs_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capability: str, mkldnn: bool, avx512: bool, amx: bool, faster: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: mkldnn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert cpu_multiplies_bf16() is faster


def test_memory_is_kept_unless_the_environment_says_otherwise() -> None:
    """In a process of its own: where tensors were freed, the next one costs no page fault."""
    script = """
import resource, sys, torch
from maxrl.engine import keep_freed_memory
kept = keep_freed_memory()
for _ in range(40):  # small objects between them keep the first ones from being joined
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults)
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))
    }

    def run(**more: str) -> tuple[bool, int]:
        finished = subprocess.run(
            [sys.executable, "-c", script],
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=True,
        )
        kept, faults = finished.stdout.split()
        return kept == "True", int(faults)

    kept, faults = run()
    left_alone, usual = run(MALLOC_ARENA_MAX="1")
    assert not left_alone
    assert kept is (platform.libc_ver()[0] == "glibc")
    if kept:
        assert faults < 100 < usual

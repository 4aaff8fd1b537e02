"""The processor's own choices."""

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


def test_bf16_needs_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert cpu_multiplies_bf16() is False

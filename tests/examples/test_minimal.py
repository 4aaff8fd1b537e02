"""The algorithm on one page: what it promises its reader."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from maxrl.engine import PromptGroup, engine_attention, token_logprobs
from maxrl.models import build_tiny
from maxrl.tasks import SubsetSum

PAGE = Path(__file__).parents[2] / "examples" / "minimal.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}


def load_page() -> Any:
    """The example as a module of its own."""
    spec = spec_from_file_location("minimal", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_quickly(page: Any, *arguments: str) -> None:
    """All of it on problems so easy that a second of demonstrations lets some rollouts succeed."""
    page.TASK = SubsetSum(num_elements=3, max_value=4, prompt_format="compact")
    page.DEMONSTRATION_STEPS, page.DEMONSTRATIONS, page.PROMPTS, page.ROLLOUTS = 30, 16, 4, 8
    page.EVALUATION = replace(page.EVALUATION, eval_problems=8)
    page.main(["--steps", "20", *arguments])


def numbers(line: str) -> list[float]:
    """Every number of a line that has a decimal point."""
    return [float(number) for number in re.findall(r"\d+\.\d+", line)]


def test_it_fits_on_a_page() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 120


def test_two_runs_print_the_same_and_neither_needs_trl(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_minimal import load_page, run_quickly\n"
        "run_quickly(load_page(), '--seed', '3')\n"
        "print(*({'trl', 'datasets', 'maxrl.training'} & sys.modules.keys()), file=sys.stderr)\n"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", code],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (fresh.returncode, fresh.stderr.strip()) == (0, ""), fresh.stderr[-4000:]
    run_quickly(load_page(), "--seed", "3")
    printed = capsys.readouterr().out
    assert fresh.stdout == printed
    before, *steps, after = printed.splitlines()
    for line in (before, after):
        assert re.findall(r"pass@(\d+) ", line) == ["1", "4", "16", "64"]
    assert [line.split()[:2] for line in steps] == [["step", "10"], ["step", "20"]]
    assert all(number > 0 for line in steps for number in numbers(line)), "no group had any signal"
    assert numbers(before) != numbers(after), "training changed nothing"

    run_quickly(load_page(), "--seed", "4")
    other = capsys.readouterr().out.splitlines()
    assert other[0] == before
    assert other[1:-1] != steps


def test_leaving_out_groups_without_signal_changes_no_gradient() -> None:
    page = load_page()
    groups = [PromptGroup([1, 5, 6], [[7, 2], [8, 9, 2]]), PromptGroup([1, 9], [[5, 2], [6, 2]])]
    weights_GN = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    model = build_tiny(page.TOKENIZER, page.SHAPE)
    with engine_attention(model):
        logprobs_R = token_logprobs(model, groups).logprobs.sum(dim=1)
        (-(weights_GN.flatten() * logprobs_R).sum() / (4 * page.MAX_COMPLETION_LENGTH)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    whole = dict(model.named_parameters())

    model = build_tiny(page.TOKENIZER, page.SHAPE)
    page.climb(model, torch.optim.SGD(model.parameters(), lr=1.0), groups, weights_GN)
    start = dict(build_tiny(page.TOKENIZER, page.SHAPE).named_parameters())
    for name, parameter in model.named_parameters():
        gradient = whole[name].grad
        assert gradient is not None
        torch.testing.assert_close(parameter.grad, gradient)
        torch.testing.assert_close(parameter, start[name] - gradient)


def test_a_batch_without_signal_leaves_the_policy_alone() -> None:
    page = load_page()
    model = build_tiny(page.TOKENIZER, page.SHAPE)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    page.climb(model, optimizer, [PromptGroup([1, 5], [[7, 2], [8, 2]])], torch.zeros(1, 2))
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


@pytest.mark.slow
def test_it_learns() -> None:
    done = subprocess.run(
        [sys.executable, str(PAGE), "--seed", "1"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=True,
    )
    before, *steps, after = map(numbers, done.stdout.splitlines())
    # Seeds 0, 1 and 2: pass@1 goes from 28 % to 36 or 37 %.
    assert before[0] > 20
    assert after[0] > before[0] + 4
    assert len(steps) == 12
    assert sum(success for success, _ in steps[-6:]) > sum(success for success, _ in steps[:6])

"""The GPU's own parts against the CPU's results. Nothing here runs on a machine without one."""

import pytest
import torch
from tests.engine.policies import PROMPTS, build, generator, groups_of

from maxrl.engine import SamplingParams, engine_attention, token_logprobs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GROUPS = groups_of((5, (3, 1, 9)), (7, (4, 4, 2, 6)))


def gradient(device: str, kernel: str) -> tuple[torch.Tensor, torch.Tensor]:
    model = build("qwen2").to(device)
    with engine_attention(model):
        logprobs = token_logprobs(model, GROUPS, kernel=kernel).logprobs  # pyright: ignore[reportArgumentType]
        (logprobs * torch.arange(logprobs.numel(), device=device).view_as(logprobs).cos()).sum().backward()
    grads = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return logprobs.detach().cpu(), torch.cat(grads).cpu()


@pytest.mark.parametrize("kernel", ["dense", "flex"])
def test_log_probabilities_and_gradients(kernel: str) -> None:
    expected, expected_gradient = gradient("cpu", "dense")
    logprobs, grads = gradient("cuda", kernel)
    torch.testing.assert_close(logprobs, expected, rtol=0, atol=1e-4)
    assert (grads - expected_gradient).norm() < 1e-4 * expected_gradient.norm()


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_greedy_completions(cuda_graphs: bool) -> None:
    """Longer than the first capacity, so that a graph is recorded more than once."""
    params = SamplingParams(max_completion_length=150, temperature=0)
    on_cpu = generator(build("qwen2"), [2])
    on_gpu = generator(build("qwen2").cuda(), [2], cuda_graphs=cuda_graphs)
    expected, drawn = (sampler.generate(PROMPTS[:3], params, seeds=[0, 0, 0]) for sampler in (on_cpu, on_gpu))
    assert [group[0].token_ids for group in drawn] == [group[0].token_ids for group in expected]


def test_rollouts_that_end_at_different_times() -> None:
    params = SamplingParams(max_completion_length=40, num_generations=16)
    plain, graphed = (
        generator(build("qwen2").cuda(), [2, 3, 4], cuda_graphs=graphs).generate(
            PROMPTS[:3], params, seeds=[1, 2, 3]
        )
        for graphs in (False, True)
    )
    assert [[row.token_ids for row in group] for group in graphed] == [
        [row.token_ids for row in group] for group in plain
    ]

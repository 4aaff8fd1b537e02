"""prime-rl: a loss for its `custom` plug point, whose gradient is the estimator's.

    [trainer.loss]
    type = "custom"
    import_path = "maxrl.integrations.prime_rl.policy_gradient_loss"
    kwargs = { ratio_max = 2.0 }

    [orchestrator.algo]
    type = "max_rl"

The algorithm is prime-rl's own: (r − r̂)/r̂, zeros where the mean is not positive, of order group_size − 1 (its documentation
says group_size). prime-rl is asynchronous, so that rollouts are a step older than the policy: the importance ratio corrects
for that, cut at `ratio_max` from above. No token is masked and nothing is regularised: with the default loss (DPPO's masks,
KL) another objective is optimised than the estimator's.

Tested against the documented interface.
"""

from typing import Any

import torch


def policy_gradient_loss(inputs: Any, ratio_max: float = 2.0) -> Any:
    """−Σ_t min(ρ_t, ratio_max) A_t log π_t of one sequence, the ratio ρ_t = π_t/μ_t taken as a constant.

    On rollouts of the present policy ρ = 1 and the gradient is −Σ_t A_t ∇log π_t.

    Args:
        inputs: prime-rl's `LossInputs`: `trainer_logprobs`, `inference_logprobs`, `advantages`, `loss_mask`, all (seq,), and
            `loss_weights` of tokens where a version has them.
        ratio_max: from above, against tokens that the present policy finds much likelier than the one that drew them.

    Returns:
        prime-rl's `LossOutputs`, with the mean of the ratio after the cut and the share of tokens that were cut as metrics.
        prime-rl divides the sum over all sequences by the tokens of the whole batch.
    """
    from prime_rl.trainer.rl.loss import LossOutputs

    mask = inputs.loss_mask
    ratio = torch.exp((inputs.trainer_logprobs - inputs.inference_logprobs).detach())
    cut = ratio.clamp(max=ratio_max)
    terms = cut * inputs.advantages * inputs.trainer_logprobs
    weights = getattr(inputs, "loss_weights", None)
    if isinstance(weights, torch.Tensor):
        terms = weights * terms
    counted = mask.sum().clamp(min=1)
    return LossOutputs(
        loss=-terms[mask].sum(),
        metrics={
            "importance_ratio": cut[mask].sum() / counted,
            "ratio_cut": (ratio > ratio_max)[mask].sum() / counted,
        },
    )

"""How the losses of tokens become one loss: names that say it, for what TRL names after papers.

What each does to the estimator is derived in docs/aggregation.md.
"""

AGGREGATIONS = {
    "rollout_sum": "luspo",
    "constant": "dr_grpo",
    "rollout_mean": "grpo",
    "token_mean": "dapo",
}
"""Name → TRL's `loss_type`.

TRL's "luspo" differs from its "grpo" in the aggregation alone: it sums over the tokens of a rollout. What made it a method
of its own are sequence-level ratios, which are another option (`importance_sampling_level`).
"""


def trl_loss_type(name: str) -> str:
    """What TRL calls an aggregation, or any other loss of its own.

    >>> trl_loss_type("rollout_sum"), trl_loss_type("cispo")
    ('luspo', 'cispo')
    """
    return AGGREGATIONS.get(name, name)

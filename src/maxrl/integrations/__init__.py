"""The estimators in the engines people already train on, by their names and with one line each.

outcome     rewards and masks of tokens + ids of prompts → advantages of tokens: what the plug-ins share
rescale     rewards that become these advantages in any engine that subtracts a group's mean
verl        registered by verl's entry points as it is imported
skyrl       registered by a helper, or by a main script of its own
slime       a function for `--custom-reward-post-process-path`
prime_rl    a loss for its custom plug point
tinker      a mixin for builders of environment groups
seen        whether an engine sees its plug-in here: `maxrl doctor --engine`

Nothing of an engine is imported here before it is asked for; of maxrl only `objectives` is, which needs torch alone, so that
the plug-ins run in environments with other versions of everything else.
"""

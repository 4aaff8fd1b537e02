"""The taskset `maxrl-tasks` of verifiers and prime-rl, which look it up by the name of a module at the top.

See `maxrl.integrations.verifiers`. The harness exported here is the one that is taken where none is named: it only talks to
the model, where verifiers' own default gives it a shell.
"""

from verifiers.v1.harnesses.null import NullHarness

from maxrl.integrations.verifiers import MaxRLTaskset

__all__ = ["MaxRLTaskset", "NullHarness"]

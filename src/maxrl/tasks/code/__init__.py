"""The task `code`: write a function that a compiler and hidden tests judge, in a sandbox.

`task` is the task. What a completion's code is: `extraction`; what it is put into: `harness`, built and run by `toolchains`.
Problems: `problems` (the project's), `templates` (without end). The graded reward for Rust: `rust_reward`, `rust_syntax`.
"""

from maxrl.tasks.code.task import Code

__all__ = ["Code"]

"""What tests of the code task need of the machine."""

import os

import pytest

from maxrl.tasks.code import Code


def need(task: Code) -> Code:
    """The task, where it can run. Else the test is skipped, or fails in CI or with MAXRL_REQUIRE_TOOLS=1."""
    message = task.missing()
    if message:
        if os.environ.get("CI") or os.environ.get("MAXRL_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return task

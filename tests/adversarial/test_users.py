"""The attacks' users: what a machine lacks must show where nothing may be left out."""

import os

import pytest
from tests.adversarial.users import missing, need_root

EITHER = (
    pytest.fail.Exception,
    pytest.skip.Exception,
)  # a skip that is not caught would skip the test itself


@pytest.fixture(params=["", "CI", "MAXRL_REQUIRE_TOOLS"])
def outcome(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    """What becomes of a test that lacks something: by whether everything is asked for."""
    for name in ("CI", "MAXRL_REQUIRE_TOOLS"):
        monkeypatch.delenv(name, raising=False)
    if request.param:
        monkeypatch.setenv(request.param, "1")
    return pytest.fail.Exception if request.param else pytest.skip.Exception


def test_a_missing_tool(outcome: type[BaseException]) -> None:
    with pytest.raises(EITHER, match="rustc is missing; install the package rust") as caught:
        missing("rustc", "rust")
    assert caught.type is outcome


def test_tests_that_are_not_run_by_root(
    outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EITHER, match="run the tests as root") as caught:
        need_root()
    assert caught.type is outcome
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    need_root()

"""The benchmark of the estimators: it times every one of them, and ends with JSON."""

import json
import sys

import estimators
import pytest

from maxrl.objectives import ESTIMATORS


def test_times_every_estimator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["estimators.py", "--groups", "3", "--rollouts", "20", "--repeats", "1"])
    monkeypatch.setattr(estimators.torch, "set_num_threads", lambda threads: None)
    estimators.main()
    *table, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert (found["groups"], found["rollouts"]) == (3, 20)
    timed = found["milliseconds"]
    assert {form.partition("(")[0] for form in timed["binary"]} == set(ESTIMATORS)
    assert len(table) == len(timed["binary"]) + len(timed["graded"])
    assert all(value > 0 for kind in timed.values() for value in kind.values())

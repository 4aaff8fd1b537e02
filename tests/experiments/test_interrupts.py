"""Ctrl-C: noted once, at once the second time, and none of a forked process's business."""

import os
import signal

import pytest

from maxrl.experiments.interrupts import InterruptWatch


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_noted_and_said_and_the_handler_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with InterruptWatch() as watch:
        assert not watch.pressed
        press_ctrl_c()
        assert watch.pressed
    assert signal.getsignal(signal.SIGINT) is before
    said = "\nfinishing this step, then saving a checkpoint; Ctrl-C again stops at once\n"
    assert capsys.readouterr().err == said


def test_the_second_stops_at_once_and_the_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)

    def impatient() -> None:
        with InterruptWatch():
            press_ctrl_c()
            press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        impatient()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 and later
def test_a_forked_process_does_not_react(capfd: pytest.CaptureFixture[str]) -> None:
    with InterruptWatch() as watch:
        child = os.fork()
        if child == 0:
            status = 3
            try:
                press_ctrl_c()
                press_ctrl_c()
                status = int(watch.pressed)
            finally:
                os._exit(status)  # else it would go on with the tests
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert not watch.pressed
    assert capfd.readouterr().err == ""

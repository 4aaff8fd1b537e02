"""Speed is counted in completions judged, half of them right."""

import time

import pytest

from maxrl.errors import InputError
from maxrl.tasks import SubsetSum, Task, Verdict, throughput
from maxrl.tasks.throughput import completions_per_second


class Counting(SubsetSum):
    """Notes what it is asked to judge; each verdict takes a hundredth of a second of the clock below."""

    seen: tuple[list[str], list[bool]] = ([], [])

    def score(self, truth: object, completion: str) -> Verdict:
        verdict = super().score(truth, completion)  # pyright: ignore[reportArgumentType]
        self.seen[0].append(completion)
        self.seen[1].append(verdict.success)
        return verdict


def test_half_is_right_and_the_rest_wrong_in_all_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    task: Task = Counting(prompt_format="compact")
    clock = iter([0.0, 0.5, 10.0, 10.1, 20.0, 20.2])  # three repeats of .5, .1 and .2 seconds
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    rate = completions_per_second(task, 50)
    assert rate == pytest.approx(100 / 0.2)
    completions, successes = Counting.seen
    assert len(completions) == 3 * 100
    assert sum(successes) == 3 * 50
    wrong = {text for text, success in zip(completions, successes, strict=True) if not success}
    assert len(wrong) > 40


def test_it_is_a_rate_of_real_time() -> None:
    started = time.perf_counter()
    rate = completions_per_second(SubsetSum(), 20, repeats=1)
    assert rate > 40 / (time.perf_counter() - started)


@pytest.mark.parametrize("counts", [{"problems": 0}, {"problems": 1, "repeats": 0}])
def test_nothing_has_no_rate(counts: dict[str, int]) -> None:
    with pytest.raises(InputError, match="=0 is not allowed"):
        completions_per_second(SubsetSum(), **counts)

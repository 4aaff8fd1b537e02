"""The code task apart from compilers: parameters, problems, prompts, and how verdicts are collected."""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.errors import InputError
from maxrl.tasks import Example, Verdict
from maxrl.tasks.code import task as code
from maxrl.tasks.code.harness import END
from maxrl.tasks.code.problems import LANGUAGES, LEVELS, load_problems
from maxrl.tasks.code.rust_reward import Diagnostics, RustWeights, rust_terms
from maxrl.tasks.code.rust_syntax import Syntax
from maxrl.tasks.code.task import MOST_CODE, Code
from maxrl.tasks.code.templates import template_problem
from maxrl.tasks.code.toolchains import NO_CODE, REASONS, TOO_LONG, Toolchain
from maxrl.tasks.sandbox import Limits, Outcome, SandboxError
from maxrl.tasks.workers import WorkerFailure

TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
TRUTH = {"language": "c", "template": "larger", "name": "kilo", "parameters": ["a", "b"], "constants": []}


class Scripted:
    """A sandbox that answers by what stands in the source, and compiles anything."""

    name = "scripted"

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.threads: set[int] = set()
        self.together = threading.Barrier(1)

    def run(self, command: list[str], *, files: Mapping[str, bytes], **given: Any) -> Outcome:
        if command == ["./program"]:
            return self._outcome(**ENDINGS[files["program"].decode()])
        if "harness.c" in files:
            return self._outcome(exit_code=0, collected={"harness.o": b"ELF"})
        source = files["solution.c"].decode()
        self.sources.append(source)
        self.threads.add(threading.get_ident())
        self.together.wait(timeout=20)
        ending = next(key for key in ENDINGS if f"/*{key}*/" in source)
        if ending == "sandbox fails":
            raise SandboxError("no more processes")
        if ending.startswith("compiler"):
            return self._outcome(**ENDINGS[ending])
        return self._outcome(exit_code=0, collected={"program": ending.encode()})

    @staticmethod
    def _outcome(**given: Any) -> Outcome:
        return Outcome(**({"status": "exited", "stdout": b"", "stderr": b"", "seconds": 0.1} | given))


FAILED = Verdict(success=False, reward=None, reason=code.TOOLS_FAILED, error="no more processes")

# Of the larger of two numbers, as the template's hidden tests have them.
LARGER = template_problem(TRUTH)
assert not isinstance(LARGER, str)
RESULTS = b"\n".join(b"%d" % case.expected for case in LARGER.tests)
ENDINGS: dict[str, dict[str, Any]] = {
    "right": {"exit_code": 0, "stdout": b"\n" + RESULTS + f"\n{END}\n".encode()},
    "wrong": {"exit_code": 0, "stdout": b"\n" + RESULTS.replace(b"5", b"6") + f"\n{END}\n".encode()},
    "silent": {"exit_code": 0},
    "exit code": {"exit_code": 1, "stdout": b"\n" + RESULTS + f"\n{END}\n".encode()},
    "signal": {"status": "signalled", "signal": 11},
    "cpu": {"status": "cpu time"},
    "wall": {"status": "wall time"},
    "memory": {"status": "memory"},
    "processes": {"status": "processes"},
    "output": {"status": "output"},
    "compiler exit code": {"exit_code": 1},
    "compiler signal": {"status": "signalled", "signal": 6},
    "compiler memory": {"status": "memory"},
    "compiler time": {"status": "wall time"},
    "compiler without a program": {"exit_code": 0},
    "sandbox fails": {},
}
VERDICTS = {
    "right": "",
    "wrong": "wrong result",
    "silent": "wrong result",
    "exit code": "crashed",
    "signal": "crashed",
    "cpu": "ran out of time",
    "wall": "ran out of time",
    "memory": "out of memory",
    "processes": "crashed",
    "output": "too much output",
    "compiler exit code": "does not compile",
    "compiler signal": "does not compile",
    "compiler memory": "takes too much to compile",
    "compiler time": "takes too much to compile",
    "compiler without a program": "does not compile",
}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    sandbox = Scripted()
    monkeypatch.setattr(code, "make_sandbox", lambda _mode: sandbox)
    monkeypatch.setattr(code, "find_toolchain", lambda language: Toolchain(language=language, program="/cc"))
    monkeypatch.setattr(code, "check_toolchain", lambda *_: None)
    return sandbox


def test_every_ending_has_its_reason(scripted: Scripted) -> None:
    assert VERDICTS.keys() == ENDINGS.keys() - {"sandbox fails"}
    verdicts = Code().score_many([TRUTH] * len(VERDICTS), [f"/*{ending}*/" for ending in VERDICTS])
    for (ending, reason), verdict in zip(VERDICTS.items(), verdicts, strict=True):
        good = ending == "right"
        assert verdict == Verdict(success=good, reward=float(good), reason=reason), ending
    assert set(VERDICTS.values()) | {NO_CODE, TOO_LONG} == {"", *REASONS}


def test_a_sandbox_that_fails_is_an_error_and_no_zero(scripted: Scripted) -> None:
    right, failed = Code().score_many([TRUTH, TRUTH], ["/*right*/", "/*sandbox fails*/"])
    assert right.success
    assert failed == FAILED


def test_equal_completions_are_judged_once(scripted: Scripted) -> None:
    other = TRUTH | {"name": "sudo"}
    texts = ["/*right*/", "```c\n/*right*/\n```", "/*wrong*/", "\n/*right*/\n", "", "/*right*/"]
    verdicts = Code(workers=1).score_many([*[TRUTH] * 5, other], texts)
    assert [verdict.success for verdict in verdicts] == [True, True, False, True, False, True]
    assert len(scripted.sources) == 3  # right, wrong, and right for the other problem
    assert len(scripted.threads) == 1


def test_completions_are_judged_at_once(scripted: Scripted) -> None:
    scripted.together = threading.Barrier(3)  # which times out unless three are under way together
    texts = [f"/*right*/ int x{number};" for number in range(6)]
    assert all(verdict.success for verdict in Code(workers=3).score_many([TRUTH] * 6, texts))
    assert len(scripted.threads) == 3


@pytest.mark.parametrize("cores", [1, 2])
def test_by_default_there_are_as_many_workers_as_cores(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(code.os, "sched_getaffinity", lambda _pid: set(range(cores)))
    scripted.together = threading.Barrier(cores)
    texts = [f"/*right*/ int x{number};" for number in range(4)]
    assert all(verdict.success for verdict in Code().score_many([TRUTH] * 4, texts))
    assert len(scripted.threads) == cores


def test_limits_reach_the_sandbox(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Limits] = []
    run = scripted.run
    monkeypatch.setattr(scripted, "run", lambda *a, limits, **k: seen.append(limits) or run(*a, **k))
    assert Code(cpu_seconds=1.5, wall_seconds=2.5, memory_mb=600).score(TRUTH, "/*right*/").success
    # The harness, the solution, the program.
    assert [(used.cpu_seconds, used.wall_seconds, used.memory_mb) for used in seen] == [(1.5, 2.5, 600)] * 3
    assert [used.file_mb < used.disk_mb for used in seen] == [True] * 3
    assert seen[1].file_mb <= seen[2].disk_mb // 2  # what is built fits where it is to run


@pytest.mark.parametrize("completion", ["", " \n", "```c\n```", "```rust\nfn f() {}\n```"])
def test_no_code_is_judged_without_a_compiler(completion: str) -> None:
    assert Code().score(TRUTH, completion) == Verdict(success=False, reward=0.0, reason=NO_CODE)


def test_long_code_is_not_looked_at(scripted: Scripted) -> None:
    fits = "/*right*/" + "x" * (MOST_CODE - 9)
    assert Code().score(TRUTH, fits).success
    for text in (fits + "x", "/*right*/" + "é" * (MOST_CODE // 2), "x" * 2**20):
        assert Code().score(TRUTH, text) == Verdict(success=False, reward=0.0, reason=TOO_LONG)
    assert len(scripted.sources) == 1


@pytest.mark.parametrize(
    ("completion", "reason"),
    [("", NO_CODE), ("```c\nint x;\n```", NO_CODE), ("x" * (MOST_CODE + 1), TOO_LONG)],
)
def test_a_graded_refusal_has_every_term_and_pays_no_more_than_a_syntax_error(
    completion: str, reason: str
) -> None:
    weights = {"error": -3.0, "no_warnings": 0.5}
    for text, of_weights in (("", {}), ("error=-3, no_warnings=.5", weights)):
        verdict = Code(reward="components", weights=text).score(TRUTH | {"language": "rust"}, completion)
        # The error and rustc's summary, and no warning.
        failed = Diagnostics(compiles=False, errors=2, warnings=0)
        terms = rust_terms(failed, Syntax(parses=False), RustWeights(**of_weights))
        assert verdict == Verdict(success=False, reward=sum(terms.values()), components=terms, reason=reason)
        assert verdict.reward == 2 * of_weights.get("error", -2.0) + of_weights.get("no_warnings", 1.0)
        assert len(verdict.components) == 24


KINDS = {
    "time": True,
    "memory": True,
    "crashed": True,
    "stalled": False,
    "raised": False,
    "unavailable": False,
}


@pytest.mark.parametrize(("kind", "own_fault"), KINDS.items())
def test_code_that_cannot_be_measured(
    kind: Any, own_fault: bool, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = WorkerFailure(kind=kind, detail="as it is")
    monkeypatch.setattr(code, "measure_all", lambda codes: [failure] * len(codes))
    verdict = Code(reward="components").score(TRUTH | {"language": "rust"}, "fn f() {}")
    assert scripted.sources == []
    if own_fault:
        assert (verdict.reward, verdict.reason) == (-3.0, "takes too much to compile")
    else:
        assert (verdict.reward, verdict.error) == (None, f"tree-sitter: {kind}: as it is")


@given(TEXTS | st.text(alphabet="`~crust\n x"))
@settings(derandomize=True, database=None, deadline=1000, max_examples=200)
def test_any_text_is_no_code_or_goes_to_the_compiler(text: str) -> None:
    class Refusing(Code):
        def _tools(self, language: Any) -> str:
            return ""

        def _judge(self, *_: Any) -> Verdict:
            return Verdict(success=False, reward=0.0, reason="does not compile")

    assert Refusing().score(TRUTH, text).reason in (NO_CODE, "does not compile")


# ---------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"language": "rest"}, "unknown language 'rest'; did you mean 'rust'"),
        ({"problems": "template"}, "unknown problems 'template'; did you mean 'templates'"),
        ({"level": "heard"}, "unknown level 'heard'; did you mean 'hard'"),
        ({"prompt_format": "plain"}, "unknown prompt_format 'plain'"),
        ({"reward": "component"}, "did you mean 'components'"),
        ({"sandbox": "none"}, "unknown sandbox 'none'"),
        ({"problems": "templates", "level": "hard"}, "templates are all easy"),
        ({"reward": "components", "language": "c"}, "set language=rust, or reward=binary for c"),
        ({"weights": "panics=1"}, "did you mean 'panic'"),
        ({"workers": -1}, "workers=-1"),
        ({"workers": 1.0}, "workers=1.0"),
        ({"memory_mb": 511}, "memory_mb=511 is not allowed; give a whole number of at least 512"),
        ({"memory_mb": 63, "language": "python"}, "at least 64"),
        ({"wall_seconds": 0.0}, "wall_seconds=0.0"),
        ({"wall_seconds": 25.5}, "up to 25"),
        ({"wall_seconds": float("nan")}, "wall_seconds=nan"),
        ({"cpu_seconds": 0.0}, "cpu_seconds must be a number above 0"),
    ],
)
def test_parameters_that_cannot_be(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Code(**parameters)


def test_what_is_graded() -> None:
    assert not Code().graded
    assert Code(reward="components").graded


def test_a_judgement_fits_into_the_time_limit() -> None:
    # Harness, solution and program, and before the first of them the same of a known one; each up to wall_seconds.
    assert Code.time_limit >= 6 * 25


def test_what_is_missing_is_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "find_toolchain", lambda language: None)
    monkeypatch.setattr(code, "check_toolchain", lambda *_: None)
    monkeypatch.setattr(code, "make_sandbox", lambda _mode: None)
    monkeypatch.setattr(code, "sandbox_reason", lambda mode: f"{mode} is not there")
    assert Code().missing() == "the sandbox 'bubblewrap' cannot be used here: bubblewrap is not there"
    monkeypatch.setattr(code, "sandbox_reason", lambda mode: None)
    assert Code().missing() is None

    def fails(*_: object) -> None:
        raise SandboxError("no more processes")

    monkeypatch.setattr(code, "check_toolchain", fails)
    assert Code().missing() == "no more processes"
    assert Code().score(TRUTH, "int x;") == FAILED


# ------------------------------------------------------------------------------------------------------------ problems


@pytest.mark.parametrize("level", ["all", *LEVELS])
def test_training_goes_round_the_projects_problems(level: Any) -> None:
    task = Code(level=level)
    size = task.size("train")
    assert size is not None
    stream = [example.id for example in task.examples("train", 3 * size, seed=0)]
    rounds = [stream[i * size : (i + 1) * size] for i in range(3)]
    assert len(set(rounds[0])) == size
    assert set(Counter(stream).values()) == {3}
    assert len({tuple(ids) for ids in rounds}) > 1  # shuffled anew
    assert [example.id for example in task.examples("train", size, seed=1)] != rounds[0]
    assert [e.id for e in task.examples("train", 5, seed=0, start=size - 2)] == stream[size - 2 : size + 3]


def test_splits_share_no_problem_and_levels_make_up_all() -> None:
    ids = {
        (level, split): {e.id for e in Code(level=level).examples(split, Code(level=level).size(split) or 0)}
        for level in ("all", *LEVELS)
        for split in ("train", "eval")
    }
    assert not ids["all", "train"] & ids["all", "eval"]
    assert ids["all", "train"] | ids["all", "eval"] == {problem.id for problem in load_problems()}
    for split in ("train", "eval"):
        assert set[str]().union(*(ids[level, split] for level in LEVELS)) == ids["all", split]
        assert all(ids[level, split] for level in LEVELS)
    for problem in load_problems():
        assert problem.id in ids[problem.level, "train"] | ids[problem.level, "eval"]


def test_templates_have_no_end_and_pose_the_same_in_every_language() -> None:
    tasks = [Code(problems="templates", language=language) for language in LANGUAGES]
    assert {task.size(split) for task in tasks for split in ("train", "eval")} == {None}
    drawn = [[{**e.truth, "language": ""} for e in task.examples("train", 20)] for task in tasks]
    assert drawn[0] == drawn[1] == drawn[2]
    assert [e.truth["language"] for task in tasks for e in task.examples("train", 1)] == [*LANGUAGES]


def _text(example: Example) -> str:
    return example.prompt if isinstance(example.prompt, str) else example.prompt[0]["content"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("problems", ["project", "templates"])
def test_prompts_name_the_function_and_show_no_test(language: Any, problems: Any) -> None:
    for format_ in ("chat", "compact"):
        task = Code(language=language, problems=problems, prompt_format=format_)
        for example in task.examples("train", 20):
            text = _text(example)
            assert isinstance(example.prompt, list) is (format_ == "chat")
            assert task.demonstration(example).strip("`\n") not in text
            function = example.truth.get("name", example.truth.get("problem"))
            assert f"{function}(" in text
            assert END not in text


def test_the_compact_prompt_of_a_template_is_a_line() -> None:
    example = Code(problems="templates", prompt_format="compact", language="c").examples("train", 1, seed=3)[
        0
    ]
    assert _text(example).count("\n") == 1
    assert _text(example).startswith(f"{example.truth['name']}(")


def test_demonstrations_come_in_the_form_asked_for() -> None:
    chat, compact = Code(language="python"), Code(language="python", prompt_format="compact")
    example = chat.examples("train", 1)[0]
    bare = compact.demonstration(example)
    assert chat.demonstration(example) == f"```python\n{bare}\n```"
    assert f"def {example.truth['problem']}(" in bare


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (None, "a mapping"),
        ({}, "'language'"),
        ({"language": "ada", "problem": "x"}, "'language'"),
        ({"language": ["rust"], "problem": "x"}, "'language'"),
        ({"language": "rust"}, "'problem'"),
        ({"language": "rust", "problem": "no such problem"}, "'problem'"),
        ({"language": "rust", "problem": {}}, "'problem'"),
        ({"language": "rust", "template": "no such family"}, "'template'"),
    ],
)
def test_a_truth_that_is_no_problem_is_an_error(truth: Any, message: str) -> None:
    verdict = Code().score(truth, "fn f() {}")
    assert (verdict.success, verdict.reward, verdict.reason) == (False, None, "truth is no problem")
    assert message in (verdict.error or "")
    with pytest.raises(InputError, match=message):
        Code().demonstration(Example(id="x", prompt="", truth=truth))


def test_components_judge_rust_alone() -> None:
    verdict = Code(reward="components").score(TRUTH, "int x;")
    assert verdict.error == "reward=components judges Rust, not c"


def _kinds(**parameters: Any) -> Iterator[str]:
    task = Code(**parameters)
    example = task.examples("train", 1)[0]
    return (kind for kind, _ in task.corruptions(example, task.demonstration(example)))


def test_corruptions() -> None:
    anywhere = {
        "empty",
        "blank",
        "empty block",
        "prose",
        "prompt repeated",
        "another language",
        "syntax error",
    }
    compiling = {"wrong solution", "another function", "leaves early", "prints results"}
    assert set(_kinds(language="python")) == anywhere | compiling
    for language in ("rust", "c"):
        assert set(_kinds(language=language)) == anywhere | compiling | {"cut off", "wrong type"}
    assert set(_kinds(reward="components")) == anywhere | {"cut off", "wrong type"}


def test_truths_survive_json() -> None:
    for problems in ("project", "templates"):
        for example in Code(problems=problems).examples("eval", 5):
            assert json.loads(json.dumps(example.truth)) == example.truth

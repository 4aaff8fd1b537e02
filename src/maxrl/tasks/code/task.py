"""Code: write a function in Rust, Python or C that passes tests the model does not see.

The verifier compiles and runs what the model wrote, in the sandbox of `maxrl.tasks.sandbox`: built in one, run in another
that sees the program and the arguments of the tests alone. The expected results never enter it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.base import NO_PROBLEM, Example, Task, Verdict
from maxrl.tasks.code.corruptions import corrupted
from maxrl.tasks.code.extraction import extract_code
from maxrl.tasks.code.harness import case_input, harness, program, read_results
from maxrl.tasks.code.problems import LEVELS, Language, Problem, load_problems
from maxrl.tasks.code.prompts import answered, posed, read_truth
from maxrl.tasks.code.rust_reward import (
    RustWeights,
    is_finished,
    read_diagnostics,
    read_weights,
    refusal_terms,
    rust_terms,
)
from maxrl.tasks.code.rust_syntax import Syntax, measure_all
from maxrl.tasks.code.templates import compact_prompt, draw_template, template_problem
from maxrl.tasks.code.toolchains import (
    COMPILER_STOPPED,
    LEAST_MEMORY,
    NO_CODE,
    NOT_COMPILED,
    TOO_LONG,
    WRONG,
    Toolchain,
    ToolchainError,
    build,
    check_rust,
    check_toolchain,
    compiler_reason,
    ending,
    find_toolchain,
    run,
)
from maxrl.tasks.sandbox import Limits, Mode, Sandbox, SandboxError, make_sandbox, sandbox_reason
from maxrl.tasks.streams import Split, check_integer, problem_streams, random_stream
from maxrl.tasks.workers import WorkerFailure

Reward = Literal["binary", "components"]
Source = Literal["project", "templates"]
Levels = Literal["all", "easy", "medium", "hard"]
PromptFormat = Literal["chat", "compact"]

TOOLS_FAILED = "compiler, parser or sandbox failed"
"""The reason of an error that is not the truth's."""

MOST_CODE = 2**15
"""Bytes of code beyond which none is looked at: some ten times a long answer."""

# Longer and `score` could take longer than the task's `time_limit`: it compiles and runs, the first time twice.
_LONGEST_WALL_SECONDS = 25.0
_MOST_WORKERS = 1024


@dataclass(frozen=True)
class _Submission:
    """Code to be judged. Two with the same code for the same problem are one."""

    language: Language
    problem_id: str
    code: str
    problem: Problem = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Code(Task):
    """Write a function in one language, judged by a compiler and by hidden tests.

    Problems: `project` is the committed set, every third of a level kept for evaluation; training goes round it, shuffled
    anew each time. `templates` are one-line functions without end, of which no problem is ever in both splits. Both pose
    the same problems in every language.

    Rewards: `binary` is 1.0 where the code compiles and passes every test. `components`, for Rust alone, is the guide's sum
    of what compiler and syntax tree say (`maxrl.tasks.code.rust_reward`), with success where it compiles; another bar is set
    by `correctness_threshold` of a recipe. It does not ask for the right result.

    Raises:
        InputError: on construction, when a parameter is out of range or two contradict each other.
    """

    name: ClassVar[str] = "code"
    time_limit: ClassVar[float] = 150.0

    language: Language = field(default="rust", metadata={"help": "language to write in: rust, python or c"})
    problems: Source = field(
        default="project",
        metadata={
            "help": "'project': the set that comes with maxrl; 'templates': one-line functions without end, for small "
            "models"
        },
    )
    level: Levels = field(
        default="all", metadata={"help": "which of the project's problems; templates are all easy"}
    )
    prompt_format: PromptFormat = field(
        default="chat",
        metadata={
            "help": "'chat': a question in words, for instruct models; 'compact': plain text and bare code, a few words "
            "for templates, for a small model made on the spot"
        },
    )
    reward: Reward = field(
        default="binary",
        metadata={
            "help": "'binary': 1 where the code compiles and passes its tests; 'components': the graded reward of the "
            "nanochat-rs guide (Rust only), which asks for no result"
        },
    )
    weights: str = field(
        default="",
        metadata={
            "help": "weights of 'components' that differ from the guide's, like 'panic=-4, docs=0' (see "
            "maxrl.tasks.code.rust_reward.RustWeights)"
        },
    )
    sandbox: Mode = field(
        default="bubblewrap",
        metadata={
            "help": "what code is compiled and run in; 'limits_only' isolates nothing, see maxrl.tasks.sandbox"
        },
    )
    cpu_seconds: float = field(
        default=5.0, metadata={"help": "CPU time for compiling, and again for running all tests"}
    )
    wall_seconds: float = field(
        default=10.0,
        metadata={"help": f"time on the clock for either, at most {_LONGEST_WALL_SECONDS:g} seconds"},
    )
    memory_mb: int = field(
        default=1024, metadata={"help": "megabytes for compiling, and for running; rustc needs 512"}
    )
    workers: int = field(
        default=0, metadata={"help": "completions judged at once; 0: as many as there are cores"}
    )

    def __post_init__(self) -> None:
        choices = {
            "language": Language,
            "problems": Source,
            "level": Levels,
            "prompt_format": PromptFormat,
            "reward": Reward,
            "sandbox": Mode,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise unknown_name(name, str(getattr(self, name)), get_args(allowed))
        if self.problems == "templates" and self.level not in ("all", "easy"):
            raise InputError(
                f"templates are all easy; leave out level={self.level!r}, or set problems=project"
            )
        if self.reward == "components" and self.language != "rust":
            raise InputError(
                f"reward=components is defined for Rust; set language=rust, or reward=binary for {self.language}"
            )
        read_weights(self.weights)
        check_integer("workers", self.workers, 0, _MOST_WORKERS)
        check_integer("memory_mb", self.memory_mb, LEAST_MEMORY[self.language])
        if not 0 < self.wall_seconds <= _LONGEST_WALL_SECONDS:
            raise InputError(
                f"wall_seconds={self.wall_seconds!r} is not allowed; give a number above 0, up to "
                f"{_LONGEST_WALL_SECONDS:g}"
            )
        _ = self._limits  # which checks the rest

    @property
    def graded(self) -> bool:
        """Whether rewards are more than 1.0 and 0.0."""
        return self.reward == "components"

    @cached_property
    def _limits(self) -> Limits:
        return Limits(cpu_seconds=self.cpu_seconds, wall_seconds=self.wall_seconds, memory_mb=self.memory_mb)

    @cached_property
    def _weights(self) -> RustWeights:
        return read_weights(self.weights)

    @cached_property
    def _sandbox(self) -> Sandbox:
        return make_sandbox(self.sandbox)

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Problems `start … start + count − 1` of the stream (`split`, `seed`).

        Ids of the project's problems are their own: the same one comes again in every round.

        Raises:
            InputError: on an unknown split, or a count, seed or start that is not a whole number ≥ 0.
        """
        streams = problem_streams(
            self.name, {"problems": self.problems}, split, count, seed=seed, start=start
        )
        if self.problems == "templates":
            return [self._template_example(id_, draw_template(rng, split)) for id_, rng in streams]
        chosen = self._project(split)
        rounds: dict[int, list[Problem]] = {}
        found: list[Example] = []
        for index in range(start, start + count):
            turn, position = divmod(index, len(chosen))
            if turn not in rounds:
                rng = random_stream(self.name, "round", self.level, split, seed, turn)
                rounds[turn] = rng.sample(chosen, len(chosen))
            found.append(self._project_example(rounds[turn][position]))
        return found

    def _project(self, split: Split) -> list[Problem]:
        chosen: list[Problem] = []
        for level in LEVELS if self.level == "all" else (self.level,):
            of_level = [problem for problem in load_problems() if problem.level == level]
            chosen += [p for number, p in enumerate(of_level) if (number % 3 == 2) is (split == "eval")]
        return chosen

    def _project_example(self, problem: Problem) -> Example:
        truth = {"language": self.language, "problem": problem.id}
        prompt = posed(problem, self.language, chat=self.prompt_format == "chat")
        return Example(id=problem.id, prompt=prompt, truth=truth)

    def _template_example(self, id_: str, drawn: Mapping[str, Any]) -> Example:
        truth = {"language": self.language, **drawn}
        if self.prompt_format == "compact":
            return Example(id=id_, prompt=f"{compact_prompt(drawn)}\n", truth=truth)
        problem = template_problem(drawn)
        assert isinstance(problem, Problem), "what is drawn is a problem"
        return Example(id=id_, prompt=posed(problem, self.language, chat=True), truth=truth)

    def size(self, split: Split) -> int | None:
        """How many problems the project has for a split; templates have no end."""
        return len(self._project(split)) if self.problems == "project" else None

    def missing(self) -> str | None:
        """The first of sandbox and compilers that cannot be used here, and the packages that bring it."""
        try:
            toolchain = find_toolchain(self.language)
        except ToolchainError as error:
            return str(error)
        if reason := sandbox_reason(self.sandbox):
            return f"the sandbox '{self.sandbox}' cannot be used here: {reason}"
        try:
            check_toolchain(toolchain, self._sandbox, self._limits)
        except (ToolchainError, SandboxError) as error:
            return str(error)
        return None

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """The verdict of compiler and tests on the code in one completion (`maxrl.tasks.code.extraction` finds it).

        A refusal's `reason` is one of `maxrl.tasks.code.toolchains.REASONS`. Never raises on any string. A truth that is no
        problem, a compiler that is missing or does not work and a sandbox that fails give an error (reward None, reason
        `NO_PROBLEM` or `TOOLS_FAILED`), never a zero; nothing that the code does gives one.
        """
        return self.score_many([truth], [completion])[0]

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        """A verdict per completion, several judged at once (`workers`), and equal ones together."""
        found = [self._read(truth, completion) for truth, completion in zip(truths, completions, strict=True)]
        todo = list(dict.fromkeys(item for item in found if isinstance(item, _Submission)))
        languages: set[Language] = {item.language for item in todo}
        tools = {language: self._tools(language) for language in languages}
        # Together, and before the compilers start: it takes turns.
        measured = measure_all([item.code for item in todo]) if self.graded else [None] * len(todo)
        work = todo, [tools[item.language] for item in todo], measured
        workers = min(len(todo), self.workers or _cores())
        if workers <= 1:
            verdicts = dict(zip(todo, map(self._judge, *work), strict=True))
        else:
            with ThreadPoolExecutor(workers) as pool:  # threads: the work is done in other processes
                verdicts = dict(zip(todo, pool.map(self._judge, *work), strict=True))
        return [verdicts[item] if isinstance(item, _Submission) else item for item in found]

    def _read(self, truth: Mapping[str, Any], completion: str) -> _Submission | Verdict:
        """What is to be judged, or the verdict where nothing need be run for it."""
        read = read_truth(truth)
        if isinstance(read, str):
            return _failed(read, NO_PROBLEM)
        language, problem = read
        if self.reward == "components" and language != "rust":
            return _failed(f"reward=components judges Rust, not {language}", NO_PROBLEM)
        code = extract_code(completion, language)
        if not code:
            return self._refused(NO_CODE)
        if len(code.encode("utf-8", "replace")) > MOST_CODE:
            return self._refused(TOO_LONG)
        return _Submission(language, problem.id, code, problem)

    def _tools(self, language: Language) -> Toolchain | str:
        """A toolchain that works, or why there is none."""
        try:
            toolchain = find_toolchain(language)
            check_toolchain(toolchain, self._sandbox, self._limits)
        except (InputError, SandboxError) as error:  # InputError: there is no sandbox of this kind here
            return str(error)
        return toolchain

    def _judge(
        self, submission: _Submission, toolchain: Toolchain | str, syntax: Syntax | WorkerFailure | None
    ) -> Verdict:
        if isinstance(toolchain, str):
            return _failed(toolchain)
        try:
            if syntax is not None:
                return self._judge_components(submission.code, toolchain, syntax)
            return self._judge_tests(submission, toolchain)
        except (ToolchainError, SandboxError) as error:  # nothing that the code did
            return _failed(str(error))

    def _judge_tests(self, submission: _Submission, toolchain: Toolchain) -> Verdict:
        problem, language = submission.problem, submission.language
        source, other = program(problem, language, submission.code), harness(problem, language)
        built = build(toolchain, source, self._sandbox, self._limits, harness=other)
        if not built.files:
            return self._refused(compiler_reason(built.outcome))
        outcome = run(toolchain, built, case_input(problem), self._sandbox, self._limits)
        if not outcome.ok:
            return self._refused(ending(outcome, language))
        right = read_results(problem, outcome.stdout) == len(problem.tests)
        return Verdict(success=True, reward=1.0) if right else self._refused(WRONG)

    def _judge_components(self, code: str, toolchain: Toolchain, syntax: Syntax | WorkerFailure) -> Verdict:
        if isinstance(syntax, WorkerFailure):
            if syntax.kind not in ("time", "memory", "crashed"):
                return _failed(f"tree-sitter: {syntax.kind}: {syntax.detail}")
            return self._refused(COMPILER_STOPPED)
        if (
            syntax.parses and not syntax.bodies
        ):  # comments alone would compile, and pass the guide's threshold
            return self._refused(NO_CODE)
        outcome = check_rust(toolchain, code, self._sandbox, self._limits)
        diagnostics = read_diagnostics(outcome.stderr, compiles=outcome.ok)
        reason = "" if outcome.ok else NOT_COMPILED
        if not is_finished(outcome):
            # Or to stop the compiler would be cheaper than the errors it had yet to tell.
            syntax, reason = Syntax(parses=False), COMPILER_STOPPED
        terms = rust_terms(diagnostics, syntax, self._weights)
        return Verdict(success=outcome.ok, reward=sum(terms.values()), components=terms, reason=reason)

    def _refused(self, reason: str) -> Verdict:
        terms: Mapping[str, float] = refusal_terms(self._weights) if self.graded else {}
        return Verdict(success=False, reward=sum(terms.values(), 0.0), components=terms, reason=reason)

    def demonstration(self, example: Example) -> str:
        """The reference solution: in a fence for chat, bare for compact.

        Raises:
            InputError: when the truth is no problem.
        """
        read = read_truth(example.truth)
        if isinstance(read, str):
            raise InputError(f"example '{example.id}' cannot be demonstrated: {read}")
        language, problem = read
        return answered(problem.solutions[language], language, chat=self.prompt_format == "chat")

    def corruptions(self, example: Example, gold: str) -> Iterator[tuple[str, str]]:
        """No code, code that does not compile, and for tests also code that does and is wrong, or tampers with them."""
        read = read_truth(example.truth)
        assert not isinstance(read, str), "an example of this task"
        language, problem = read
        prompt = example.prompt
        yield from (("empty", ""), ("blank", " \n\t"), ("empty block", f"```{language}\n```"))
        yield "prose", "I would loop over the input and return what is asked for."
        yield "prompt repeated", prompt if isinstance(prompt, str) else prompt[-1]["content"]
        for kind, code in corrupted(problem, language, compiles=self.reward == "binary"):
            yield kind, answered(code, language, chat=self.prompt_format == "chat")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _failed(error: str, reason: str = TOOLS_FAILED) -> Verdict:
    return Verdict(success=False, reward=None, reason=reason, error=error)

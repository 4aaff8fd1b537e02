"""`TASKS`, `get_task`, and a user's own tasks in files and modules."""

import dataclasses
import doctest
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import maxrl.tasks.registry
from maxrl.errors import InputError
from maxrl.tasks import TASKS, SubsetSum, get_task, judge, task_class

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "own_task.py")


def test_get_task_makes_the_task_with_its_parameters() -> None:
    assert TASKS["subset_sum"] is SubsetSum
    assert get_task("subset_sum") == SubsetSum()
    wanted = SubsetSum(num_elements=4, max_value=9, prompt_format="compact")
    assert get_task("subset_sum", num_elements=4, max_value=9, prompt_format="compact") == wanted


def test_an_unknown_task_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"unknown task 'subsetsum'; did you mean 'subset_sum'\?"):
        get_task("subsetsum")


def test_an_unknown_parameter_gets_the_nearest_name() -> None:
    message = r"unknown parameter of task subset_sum 'num_element'; did you mean 'num_elements'\?"
    with pytest.raises(InputError, match=message):
        get_task("subset_sum", num_element=4)


def test_a_parameter_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="num_elements=1 "):
        get_task("subset_sum", num_elements=1)


def test_public_names_exist_and_examples_in_docstrings_hold() -> None:
    assert set(maxrl.tasks.__all__) <= set(dir(maxrl.tasks))
    assert doctest.testmod(maxrl.tasks.registry) == (0, 1)


# A user's own tasks

WHOLE = """
from dataclasses import dataclass
from typing import ClassVar
from maxrl.tasks import Example, Task, Verdict

@dataclass(frozen=True, kw_only=True)
class Mine(Task):
    name: ClassVar[str] = "mine"
    size_of_it: int = 3

    def examples(self, split, count, *, seed=0, start=0):
        return [Example(id=f"{split}-{seed}-{start + i}", prompt="say a", truth={}) for i in range(count)]

    def score(self, truth, completion):
        return Verdict(success=completion == "a", reward=float(completion == "a"))
"""
SECOND = WHOLE.replace("class Mine", "class Other").replace('"mine"', '"other"')

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a task file into the working folder of the test and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write_file(text: str = WHOLE, name: str = "own_of_mine.py") -> str:
        Path(name).write_text(text)
        return name

    yield write_file
    for module in set(sys.modules) - before:
        del sys.modules[module]


def test_the_example_is_a_whole_task() -> None:
    task = get_task(EXAMPLE, num_letters=4)
    result = task.self_check(300)
    assert result.passed
    assert set(result.tried) == {
        "empty",
        "blank",
        "letter missing",
        "letter twice",
        "words around",
        "backwards",
    }
    example = task.examples("train", 1)[0]
    assert len(example.truth["word"]) == 4
    assert example.truth["word"] in example.prompt[0]["content"]
    completions = [task.demonstration(example), "zzzz", example.truth["word"]]
    verdicts = judge(task, [example.truth] * 3, completions)
    assert [verdict.reason for verdict in verdicts] == ["", "other letters", "not sorted"]
    assert [verdict.reward for verdict in verdicts] == [1.0, 0.0, 0.0]
    assert not {e.prompt[0]["content"] for e in get_task(EXAMPLE, num_letters=20).examples("train", 100)} & {
        e.prompt[0]["content"] for e in get_task(EXAMPLE, num_letters=20).examples("eval", 100)
    }
    with pytest.raises(InputError, match="num_letters=1 "):
        get_task(EXAMPLE, num_letters=1)


def test_a_file_holds_a_task(write: Write) -> None:
    file = write()
    task = get_task(file, size_of_it=5)
    assert task == task_class(f"{file}:Mine")(size_of_it=5)
    assert [field.name for field in dataclasses.fields(task)] == ["size_of_it"]
    assert task.examples("eval", 1, seed=2, start=3)[0].id == "eval-2-3"


def test_a_file_of_several_tasks_is_asked_for_one_of_them(write: Write) -> None:
    file = write(WHOLE + SECOND)
    assert get_task(f"{file}:Other").name == "other"
    for name in (file, f"{file}:"):
        with pytest.raises(
            InputError,
            match=r"^own_of_mine.py holds 2 tasks \(Mine, Other\); name one as own_of_mine.py:Mine$",
        ):
            get_task(name)


def test_tasks_that_a_file_only_imports_are_not_its_own(write: Write) -> None:
    assert get_task(write("from maxrl.tasks import SubsetSum\n" + WHOLE)).name == "mine"
    other = write("from maxrl.tasks import SubsetSum\n", "imports.py")
    assert task_class(f"{other}:SubsetSum") is SubsetSum
    with pytest.raises(InputError, match=r"imports.py holds no class that inherits from maxrl.tasks.Task"):
        get_task(other)


def test_a_class_is_the_same_each_time_and_two_files_of_one_name_are_two(write: Write) -> None:
    file = write()
    assert task_class(file) is task_class(str(Path(file).resolve())) is task_class(f"{file}:Mine")
    Path("sub").mkdir()
    other = write(SECOND, "sub/own_of_mine.py")
    assert task_class(other).name == "other"
    assert task_class(file).name == "mine"


def test_a_module_holds_a_task_also_in_the_working_folder(write: Write) -> None:
    write(name="module_of_mine.py")
    found = task_class("module_of_mine:Mine")
    assert found.name == "mine"
    assert task_class("module_of_mine:Mine") is found
    assert task_class("maxrl.tasks.subset_sum:SubsetSum") is SubsetSum
    assert sys.path.count(str(Path.cwd())) == 1


def test_a_task_of_ones_own_works_in_another_process(write: Write) -> None:
    code = f"from maxrl.tasks import get_task; print(get_task({write()!r}).examples('train', 1)[0].id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "train-0-0"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py", "task file nowhere.py does not exist"),
        ("nowhere.py:Mine", "task file nowhere.py does not exist"),
        (".py", "task file .py does not exist"),
        (
            "subset_sums",
            r"did you mean 'subset_sum'\?.*; a task of your own is named by its file, my_tasks.py, or as module",
        ),
        (
            "no_such_module:Mine",
            "cannot load the task 'no_such_module:Mine': ModuleNotFoundError: No module named",
        ),
        (
            ":Mine",
            "cannot load the task ':Mine': '' is no name of a module; give package.module:name, or a file",
        ),
        (
            "..a:Mine",
            "'..a' is no name of a module; give package.module:name, or a file, folder/file.py:name",
        ),
        ("own_of_mine.py:Mine:Mine", "'own_of_mine.py:Mine' is no name of a module"),
        ("own_of_mine.py:Mien", r"unknown class of own_of_mine.py 'Mien'; did you mean 'Mine'\?"),
        ("own_of_mine.py:dataclass", "'own_of_mine.py:dataclass' is no task: make it a class that inherits"),
        ("json:JSONDecoder", "'json:JSONDecoder' is no task"),
        ("json", "unknown task 'json'"),
    ],
)
def test_what_cannot_be_found_is_named(write: Write, name: str, message: str) -> None:
    write()
    with pytest.raises(InputError, match=message):
        get_task(name)


@pytest.mark.parametrize(
    ("cut", "put", "message"),
    [
        ('    name: ClassVar[str] = "mine"\n', "", "give it a name"),
        ('ClassVar[str] = "mine"', "ClassVar[int] = 3", "give it a name"),
        ("def examples", "def exampels", "give it a method `examples`"),
        ("def score", "def scores", "give it a method `score`"),
        (
            "@dataclass(frozen=True, kw_only=True)",
            "",
            r"decorate it with @dataclass\(frozen=True, kw_only=True\)",
        ),
        ("@dataclass(frozen=True, kw_only=True)", "@dataclass(kw_only=True)", "decorate it with @dataclass"),
        ("size_of_it: int = 3", "size_of_it: int", "give its parameter `size_of_it` a default"),
        ("name: ClassVar[str]", "name: str", "`name: ClassVar"),
        (
            "size_of_it: int = 3",
            "seed: int = 3",
            "rename its parameter `seed`, which is an option of every command",
        ),
        (
            "size_of_it: int = 3",
            "time_limit: ClassVar[float] = 0",
            "give `time_limit` in seconds, above 0: it is 0",
        ),
        (
            "size_of_it: int = 3",
            'time_limit: ClassVar[str] = "9"',
            "give `time_limit` in seconds, above 0: it is '9'",
        ),
    ],
)
def test_what_a_task_lacks_is_named(write: Write, cut: str, put: str, message: str) -> None:
    assert cut in WHOLE
    with pytest.raises(InputError, match=f"is no whole task: .*{message}"):
        get_task(write(WHOLE.replace(cut, put)))


def test_all_that_a_task_lacks_is_named_at_once(write: Write) -> None:
    with pytest.raises(InputError, match=r"a name: .*`examples`; .*`score`; decorate it"):
        get_task(write("from maxrl.tasks import Task\nclass Empty(Task): pass\n"))


def test_a_default_made_by_a_factory_is_a_default(write: Write) -> None:
    text = WHOLE.replace("import dataclass\n", "import dataclass, field\n")
    task = get_task(
        write(text.replace("size_of_it: int = 3", "size_of_it: list = field(default_factory=list)"))
    )
    assert task.size_of_it == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
@pytest.mark.parametrize("name", ["broken.py", "broken:Mine"])
def test_a_file_that_cannot_be_loaded_is_an_input_error(
    write: Write, name: str, text: str, message: str
) -> None:
    write(text, "broken.py")
    with pytest.raises(InputError, match=f"cannot load the task .*{message}"):
        get_task(name)
    write(WHOLE, "broken.py")  # mended: nothing half-made is remembered
    assert get_task(name).name == "mine"


def test_an_interrupt_while_a_file_is_loaded_passes(write: Write) -> None:
    with pytest.raises(KeyboardInterrupt):
        get_task(write("raise KeyboardInterrupt"))
    assert not [module for module in sys.modules if module.startswith("maxrl_user_task_own_of_mine")]


def test_unknown_parameters_of_a_users_task_are_named(write: Write) -> None:
    with pytest.raises(
        InputError, match=r"unknown parameter of task own_of_mine.py 'size_of'; did you mean 'size_of_it'"
    ):
        get_task(write(), size_of=4)


TYPED = WHOLE.replace(
    "from typing import ClassVar", "from typing import Any, ClassVar, Literal, Optional"
).replace(
    "    size_of_it: int = 3\n",
    """    whole: int = 3
    number: float = 0.5
    yes: bool = False
    text: str = "a"
    choice: Literal["a", "b"] = "a"
    maybe: Optional[int] = None
    either: int | str = 3
    anything: Any = None
    rows: tuple[int, ...] = ()
""",
)


@pytest.mark.parametrize(
    ("parameter", "value", "says"),
    [
        ("whole", "abc", "whole='abc' is not allowed for task own_of_mine.py; give a whole number"),
        ("whole", 3.0, "whole=3.0 is not allowed .*; give a whole number"),
        ("whole", True, "whole=True is not allowed .*; give a whole number"),
        ("whole", None, "whole=None is not allowed"),
        ("number", "1", "number='1' is not allowed .*; give a number"),
        ("number", False, "number=False is not allowed"),
        ("yes", 1, "yes=1 is not allowed .*; give True or False"),
        ("text", 1, "text=1 is not allowed .*; give a text"),
        ("choice", "c", r"unknown choice 'c'.*known: a, b"),
        ("choice", 1, "unknown choice '1'"),
        ("maybe", "3", "maybe='3' is not allowed .*; give a whole number or None"),
        ("either", 1.5, "either=1.5 is not allowed .*; give a whole number or a text"),
    ],
)
def test_a_parameter_of_the_wrong_type_is_refused(
    write: Write, parameter: str, value: object, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        get_task(write(TYPED), **{parameter: value})


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *[("whole", 4), ("number", 1), ("number", 0.25), ("yes", True), ("text", "b"), ("choice", "b")],
        *[("maybe", None), ("maybe", 1), ("either", "a"), ("anything", object()), ("rows", [1])],
    ],
)
def test_a_parameter_of_the_right_type_or_of_an_open_one_passes(
    write: Write, parameter: str, value: object
) -> None:
    assert getattr(get_task(write(TYPED), **{parameter: value}), parameter) == value


def test_a_task_that_stumbles_over_a_parameter_is_no_traceback(write: Write) -> None:
    text = WHOLE + "\n    def __post_init__(self):\n        10 / self.size_of_it\n"
    with pytest.raises(
        InputError, match=r"size_of_it='a' is not allowed for task own_of_mine.py; give a whole"
    ):
        get_task(write(text), size_of_it="a")
    with pytest.raises(
        InputError,
        match=r"task own_of_mine.py cannot be made with \{'size_of_it': 0\}: ZeroDivisionError: .*own_of_mine.py, line",
    ):
        get_task(write(text), size_of_it=0)


def test_annotations_that_name_what_is_not_there_are_no_types(write: Write) -> None:
    text = WHOLE.replace("size_of_it: int = 3", 'size_of_it: "Nowhere" = 3')
    assert get_task(write(text), size_of_it="a").size_of_it == "a"

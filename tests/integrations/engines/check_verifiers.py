"""Our tasks in a real verifiers, as prime-rl loads them: its command lines, its records. Run by `make test-integrations`."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import verifiers.v1 as vf
from verifiers.v1.utils.loaders import default_harness_id, resolve_env_config

from maxrl.tasks import get_task, task_class

TASKSET = "maxrl-tasks"
RECIPE = Path(__file__).parents[3] / "recipes" / "prime-rl" / "maze.toml"
OWN_TASK = """
from dataclasses import dataclass
from maxrl.tasks import Example, Task, Verdict

@dataclass(frozen=True, kw_only=True)
class Own(Task):
    name = "own"

    def examples(self, split, count, *, seed=0, start=0):
        return [Example(id=str(i), prompt=f"problem {i}", truth={"i": i}) for i in range(start, start + count)]

    def score(self, truth, completion):
        if truth["i"] == 1:
            raise ZeroDivisionError("the verifier's own")
        right = completion == "right"
        components = {"length": float(len(completion))}
        return Verdict(success=right, reward=0.25 + right, reason="" if right else "odd", components=components)
"""


def taskset(**config: Any) -> vf.Taskset:
    environment = resolve_env_config({"taskset": {"id": TASKSET, **config}})
    return vf.load_environment(environment).taskset


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """verifiers' harness that only talks to the model is a script in an environment made by uv, below a home of its own."""
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    home = str(tmp_path_factory.mktemp("home"))
    return {**os.environ, "PATH": tools, "HOME": home, "OPENAI_API_KEY": "none"}


@pytest.fixture
def model() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """A chat model on localhost that gives, for each prompt, the replies it was told, in turn."""
    replies: dict[str, list[str]] = {}
    asked: dict[str, int] = defaultdict(int)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][-1]["content"]
            with lock:
                number, asked[prompt] = asked[prompt], asked[prompt] + 1
            text = replies[prompt][number % len(replies[prompt])]
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for delta, finish in (({"role": "assistant", "content": text}, None), ({}, "stop")):
                choice = {"index": 0, "delta": delta, "finish_reason": finish}
                part = {
                    "id": "x",
                    "object": "chat.completion.chunk",
                    "created": 0,
                    "model": "m",
                    "choices": [choice],
                }
                self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", replies
    server.shutdown()


def run(command: str, *words: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command)), TASKSET, *words, "--no-rich", "-o", str(folder)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def evaluate(
    where: str, problem: str, rollouts: int, count: int, folder: Path, environment: dict[str, str]
) -> list[dict[str, Any]]:
    """The records that `vf-eval` writes of its rollouts."""
    run(
        "vf-eval",
        *("--env.taskset.problem", problem, "--env.taskset.count", str(count)),
        *("--env.agent.runtime.type", "subprocess"),
        *("--model", "m", "--client.base-url", where, "--num-rollouts", str(rollouts), "--no-push"),
        folder=folder,
        environment=environment,
    )
    (file,) = folder.rglob("traces.jsonl")
    return [trace for line in file.read_text().splitlines() for trace in json.loads(line)["traces"]]


def test_an_evaluation_has_the_verifiers_rewards(
    tmp_path: Path, environment: dict[str, str], model: tuple[str, dict[str, list[str]]]
) -> None:
    where, replies = model
    task = task_class("maze")(maze_size=5)
    for example in get_task("maze").examples("train", 3):
        replies[str(example.prompt)] = [task.demonstration(example), "up", "", task.demonstration(example)]
    traces = evaluate(where, "maze", 4, 3, tmp_path, environment)
    assert len(traces) == 12
    rewards = defaultdict(list)
    for trace in traces:
        assert not trace["errors"]
        assert trace["metrics"]["success"] == trace["rewards"]["verdict"]["score"]
        rewards[trace["task"]["data"]["id"]].append(trace["rewards"]["verdict"]["score"])
    assert {name: sorted(found) for name, found in rewards.items()} == {
        f"train-0-{index}": [0.0, 0.0, 1.0, 1.0] for index in range(3)
    }


def test_a_verifiers_failure_is_an_error_and_no_zero(
    tmp_path: Path, environment: dict[str, str], model: tuple[str, dict[str, list[str]]]
) -> None:
    where, replies = model
    (tmp_path / "own.py").write_text(OWN_TASK)
    replies.update({f"problem {index}": ["right", "wrong"] for index in range(3)})
    traces = evaluate(where, str(tmp_path / "own.py"), 2, 3, tmp_path, environment)
    failed = [trace for trace in traces if trace["task"]["data"]["id"] == "1"]
    assert len(failed) == 2
    for trace in failed:
        assert "verifier crashed: ZeroDivisionError: the verifier's own" in trace["errors"][-1]["message"]
        assert trace["rewards"]["verdict"] is None
    judged = [trace for trace in traces if trace["task"]["data"]["id"] != "1"]
    assert sorted(trace["rewards"]["verdict"]["score"] for trace in judged) == [0.25, 0.25, 1.25, 1.25]
    for trace in judged:
        assert trace["metrics"]["length"] == 5.0
        assert trace["info"].get("reason") == (None if trace["metrics"]["success"] else "odd")


@pytest.mark.parametrize("problem", ["subset_sum", "maze", "reverse_text", "math", "code"])
def test_gold_is_accepted_and_nothing_refused(
    problem: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    parameters = dict(task_class(problem).check_parameters)
    if (missing := get_task(problem, **parameters).missing()) is not None:
        pytest.skip(missing)
    run(
        "vf-validate",
        *("--taskset.problem", problem, "--taskset.parameters", json.dumps(parameters)),
        *("--taskset.count", "5", "--runtime.type", "subprocess"),
        folder=tmp_path,
        environment=environment,
    )
    (file,) = tmp_path.rglob("summary.json")
    summary = json.loads(file.read_text())
    assert summary["checks"]["gold"]["valid"] == summary["checks"]["noop"]["valid"] == summary["total"] == 5


def test_problems_are_the_tasks_own_and_their_records_suffice_to_judge() -> None:
    ours = get_task("maze", maze_size=5).examples("eval", 3, seed=7)
    theirs = list(
        taskset(problem="maze", parameters={"maze_size": 5}, split="eval", seed=7, count=3),
    )
    assert [task.data.id for task in theirs] == [example.id for example in ours]
    assert [task.data.prompt for task in theirs] == [example.prompt for example in ours]
    assert len({task.key for task in theirs}) == 3
    record = theirs[0].data.model_dump_json()
    again = vf.task_type(TASKSET)(type(theirs[0]).data_type().model_validate_json(record))
    assert asyncio.run(again.validate(None))  # pyright: ignore[reportArgumentType]


def test_the_length_of_a_stream() -> None:
    endless = taskset(problem="maze")
    assert not endless.bounded
    assert len({task.data.id for task in endless.take(1200)}) == 1200  # more than are drawn at once
    with pytest.raises(ValueError, match="infinite"):
        endless.shuffle()
    assert taskset(problem="maze", count=2).bounded
    assert len(list(taskset(problem="maze", count=2).shuffle())) == 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"problem": "mazes"}, "did you mean 'maze'"),
        ({"problem": "maze", "parameters": {"size": 3}}, "unknown parameter of task maze 'size'"),
        ({"problem": "maze", "count": 0}, "greater than or equal to 1"),
        ({"problem": "maze", "split": "test"}, "'train' or 'eval'"),
        ({"problems": "maze"}, "problems"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_configuration(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        taskset(**config)


def test_prime_rls_recipe_has_environments_that_verifiers_makes() -> None:
    orchestrator = tomllib.loads(RECIPE.read_text())["orchestrator"]
    sources = [*orchestrator["train"]["source"], *orchestrator["eval"]["source"]]
    assert [source["name"] for source in sources] == ["mazes", "mazes-eval"]
    train, held_out = (vf.load_environment(resolve_env_config(source["env"])) for source in sources)
    assert not train.taskset.bounded
    assert len(list(held_out.taskset)) == 256
    assert next(iter(train.taskset)).data.parameters == {"maze_size": 9}
    assert train.config.agent.runtime.type == "subprocess"


def test_doctor_sees_it() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("maxrl")), "doctor", "--engine", "verifiers"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seen" in done.stdout


def test_the_model_gets_no_shell_by_default() -> None:
    assert default_harness_id(TASKSET) == TASKSET
    harness = vf.load_environment(resolve_env_config({"taskset": {"id": TASKSET}}))._harnesses["agent"]
    assert not harness.EXECUTES_CODE

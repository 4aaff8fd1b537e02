"""What a probe samples, keeps, and goes on with."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from maxrl.errors import InputError, MaxRLError
from maxrl.evaluation import Evaluation, ProblemCounts
from maxrl.evaluation.groups import expect_groups
from maxrl.experiments import probe as probe_module
from maxrl.experiments.probe import plan_probe, probe, read_counts
from maxrl.experiments.probe_plots import write_plot
from maxrl.experiments.probe_records import Probe, Row
from maxrl.objectives import as_estimator


@pytest.fixture
def fields(tmp_path: Path, policy_folder: Path) -> dict[str, Any]:
    """A probe of the random policy, which takes a second."""
    return {
        "task": "subset_sum",
        "num_elements": 3,
        "max_value": 4,
        "prompt_format": "compact",
        "model_name_or_path": str(policy_folder),
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 5,
        "bf16": False,
        "report_to": ["none"],
        "eval_problems": 5,
        "eval_samples": 16,
        "output_dir": str(tmp_path / "out"),
    }


def sampled(folder: Path) -> dict[str, int]:
    """When each setting's completions were written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("measured/*/samples.jsonl")}


def test_the_record_says_everything(fields: dict[str, Any], tmp_path: Path) -> None:
    asked = {**fields, "estimators": ["maxrl", "maxrl(order=8)"], "temperature": 0.9, "eval_temperature": 0.1}
    result = probe(plan_probe(asked), command="as typed")
    record = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert (record["command"], record["rollouts"], record["swept"]) == ("as typed", 4, {})
    assert record["settings"]["num_elements"] == 3
    assert record["settings"]["eval_temperature"] == 0.9  # as it was drawn
    assert {"torch", "code", "machine", "threads"} <= record["environment"].keys()
    (row,) = record["rows"]
    reading = row["reading"]
    evaluation = Evaluation.load(tmp_path / "out" / row["folder"] / "eval.json")
    problems = [ProblemCounts(**problem) for problem in reading["problems"]]
    assert tuple(problems) == evaluation.problems
    assert evaluation.settings["eval_temperature"] == 0.9
    assert reading["pass_at_1"] == pytest.approx(evaluation.at(1).estimate)
    assert [groups["rollouts"] for groups in reading["groups"]] == [2, 4, 8, 16]
    for groups in reading["groups"]:
        expected = expect_groups(problems, groups["rollouts"], {"maxrl": as_estimator("maxrl")})
        assert (groups["dead"], groups["live"], groups["mastered"]) == pytest.approx(
            (expected.dead, expected.live, expected.mastered)
        )
        assert groups["signal"]["maxrl"] == pytest.approx(expected.signal["maxrl"])
        assert (groups["signal"]["maxrl(order=8)"] is None) == (groups["rollouts"] < 8)
    assert (tmp_path / "out" / row["folder"] / "environment.json").is_file()
    assert reading["judgement"]["reasons"][0].startswith("of the groups of 4, ")
    assert result.rows[0].reading is not None
    assert result.rows[0].reading.completion_tokens == evaluation.completion_tokens > 0


def test_samples_are_drawn_as_training_draws_them(fields: dict[str, Any]) -> None:
    evaluations = {"eval_temperature": 0.3, "eval_top_p": 0.5, "eval_ks": [1], "eval_greedy": True}
    plan = plan_probe({**fields, **evaluations, "temperature": 0.7, "top_p": 0.9, "top_k": 3})
    drawn = plan.settings[0][1].evaluation
    assert (drawn.eval_temperature, drawn.eval_top_p, drawn.eval_top_k) == (0.7, 0.9, 3)
    assert (drawn.eval_greedy, drawn.eval_ks, drawn.eval_samples) == (False, None, 16)


def test_by_default_the_recipes_estimator_and_grpo(fields: dict[str, Any]) -> None:
    options = {"advantage_estimator": "maxrl", "advantage_estimator_kwargs": {"order": 3}}
    plan = plan_probe({**fields, **options})
    assert plan.estimators == {"maxrl(order=3)": as_estimator("maxrl(order=3)"), "grpo": as_estimator("grpo")}
    assert list(plan_probe({**fields, "advantage_estimator": "grpo"}).estimators) == ["grpo"]


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("grpo", '{"ddof":0,"eps":5.0}', ["grpo(ddof=0, eps=5.0)", "grpo"]),
        ("grpo", {"ddof": 1}, ["grpo(ddof=1)"]),  # which it is by default
        ("grpo(eps=5.0)", {"ddof": 0}, ["grpo(eps=5.0, ddof=0)", "grpo"]),
        ("maxrl()", {"no_success": "penalize"}, ["maxrl(no_success='penalize')", "grpo"]),
        ("hybrid", {"then": "maxrl(order=2)"}, ["hybrid(then='maxrl(order=2)')", "grpo"]),
    ],
)
def test_the_recipes_estimator_is_shown_with_its_options(
    fields: dict[str, Any], name: str, options: Any, shown: list[str]
) -> None:
    plan = plan_probe({**fields, "advantage_estimator": name, "advantage_estimator_kwargs": options})
    assert list(plan.estimators) == shown
    assert next(iter(plan.estimators.values())) == plan.recipe.training.estimator()
    # As a column is headed, so it can be asked for.
    again = plan_probe({**fields, "estimators": shown})
    assert again.estimators == plan.estimators


def test_estimators_over_the_batch_are_named(fields: dict[str, Any]) -> None:
    def whole(rewards_GN: torch.Tensor) -> torch.Tensor:
        return rewards_GN - rewards_GN.mean()

    plan = plan_probe({**fields, "estimators": ["maxrl(order=16)", "success_weighted", "hybrid"]})
    plan.estimators["whole"] = as_estimator(whole)
    plan.estimators["mixed"] = as_estimator("hybrid(first=success_weighted)")
    assert probe(plan, command="").over_batch == ("success_weighted", "whole", "mixed")


@pytest.mark.parametrize(
    ("field", "value", "neutral"),
    [("min_p", 0.1, 0.0), ("repetition_penalty", 1.2, 1.0), ("generation_kwargs", {"no_repeat_ngram_size": 2}, {})],
)  # fmt: skip
def test_draws_that_evaluations_do_not_know_are_refused(
    fields: dict[str, Any], field: str, value: Any, neutral: Any
) -> None:
    with pytest.raises(
        InputError, match=f"cannot sample as training would with {field}=.*; leave {field} out"
    ):
        plan_probe({**fields, field: value})
    plan_probe({**fields, field: neutral})


def test_a_success_is_trainings(fields: dict[str, Any], tmp_path: Path) -> None:
    def read(**others: Any) -> tuple[ProblemCounts, ...]:
        reading = probe(plan_probe({**fields, "num_generations": 2, **others}), command="").rows[0].reading
        assert reading is not None
        return reading.problems

    kept = read()
    (samples,) = (tmp_path / "out").glob("measured/*/samples.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    # Rewards between 0 and 1, and a success that was cut off, as the verifiers of other tasks give.
    cut, short = (
        next(row for row in rows if (row["finish_reason"] == "length") is over) for over in (True, False)
    )
    cut |= {"success": True, "reward": 0.6}
    short |= {"success": False, "reward": 0.3}
    rows[-1] |= {"error": "broke", "reward": None, "success": False, "finish_reason": "stop"}
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def expected(wins: Callable[[dict[str, Any]], bool], counted: Callable[[dict[str, Any]], bool]) -> Any:
        groups = [rows[start : start + 16] for start in range(0, len(rows), 16)]
        return [
            (sum(map(counted, group)), sum(counted(row) and wins(row) for row in group)) for group in groups
        ]

    def found(**others: Any) -> Any:
        return [(problem.scored, problem.correct) for problem in read(**others)]

    def judged(row: dict[str, Any]) -> bool:
        return row["error"] is None

    def whole(row: dict[str, Any]) -> bool:
        return row["finish_reason"] != "length"

    above_half = expected(lambda row: row["reward"] > 0.5, judged)
    above_fifth = expected(lambda row: row["reward"] > 0.2, judged)
    assert found(correctness_threshold=0.5) == above_half
    assert (
        found(correctness_threshold=0.2)
        == found(correctness_threshold=0.4, reward_weights=[2.0])
        == above_fifth
    )
    zero = expected(lambda row: row["success"] and whole(row), judged)
    assert found(overlong="zero") == zero
    assert found(overlong="drop") == expected(
        lambda row: row["success"], lambda row: judged(row) and whole(row)
    )
    assert len({str(one) for one in (above_half, above_fifth, zero)}) == 3
    assert read() == kept  # the evaluation's own
    assert len(sampled(tmp_path / "out")) == 1  # all of the same samples


@pytest.mark.parametrize(("n", "looks"), [(["8"], (4, 8)), (["2:4", "16,8"], (2, 3, 4, 8, 16))])
def test_the_recipes_own_n_is_always_looked_at(
    fields: dict[str, Any], n: list[str], looks: tuple[int]
) -> None:
    assert plan_probe({**fields, "n": n}).rollouts == looks


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"n": ["4,32"]}, "--n asks about groups of 32 rollouts, which 16 samples per prompt cannot tell"),
        ({"num_generations": 32, "per_device_train_batch_size": 32}, "num_generations asks about groups of 32 rollouts"),
        ({"n": ["1"]}, "--n takes whole numbers from 2 on, as 4,8,16,32, but got '1'"),
        ({"n": ["four"]}, "but got 'four'"),
        ({"n": ["4:2"]}, "--n: '4:2' is an empty range"),
        ({"estimators": ["maxlr"]}, "unknown estimator 'maxlr'; did you mean 'maxrl'?"),
        ({"estimators": ["grpo", "grpo"]}, "estimators names something twice"),
        ({"sweep": ["max_value=4,1"]}, "max_value=1 is not allowed"),
        ({"sweep": ["maxvalue=4"]}, "did you mean 'max_value'?"),
    ],
)  # fmt: skip
def test_bad_questions_are_refused_before_anything_is_sampled(
    fields: dict[str, Any], wrong: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        plan_probe({**fields, **wrong})
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_data_set_cannot_be_probed(tmp_path: Path) -> None:
    for given in ({}, {"dataset_name": "rows.jsonl", "model_name_or_path": "x", "output_dir": str(tmp_path)}):
        with pytest.raises(
            InputError, match=r"probe samples a task, .*\(--config .*\(--task subset_sum \| .*\)"
        ):
            plan_probe(given)
    with pytest.raises(InputError, match="probe samples one task: give each of the tasks by itself"):
        plan_probe({"tasks": [{"task": "subset_sum"}]})
    with pytest.raises(InputError, match="a recipe with stages is one run after another"):
        plan_probe({"stages": []})


def test_nothing_is_measured_twice(fields: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    swept = {**fields, "sweep": ["num_elements=2:3", "max_value=3,4"]}
    first = probe(plan_probe(swept), command="")
    when = sampled(out)
    assert len(when) == 4
    again = probe(plan_probe(swept), command="")
    assert again.rows == first.rows
    # Neither for another question about the same samples, nor for one setting of them alone.
    probe(plan_probe({**swept, "n": ["16"], "num_generations": 8, "learning_rate": 1.0}), command="")
    probe(plan_probe(fields), command="")
    assert sampled(out) == when
    # Other samples are other settings, and leave the old ones alone.
    probe(plan_probe({**fields, "eval_seed": 1}), command="")
    probe(plan_probe({**fields, "max_completion_length": 4}), command="")
    assert len(sampled(out)) == 6
    assert sampled(out).items() > when.items()


def test_a_setting_that_was_not_finished_is_measured_anew(fields: dict[str, Any], tmp_path: Path) -> None:
    first = probe(plan_probe(fields), command="")
    folder = tmp_path / "out" / first.rows[0].folder
    (folder / "measured.json").unlink()
    (folder / "eval.json").write_text("half")
    again = probe(plan_probe(fields), command="")
    assert again.rows[0].reading is not None
    assert first.rows[0].reading is not None
    assert again.rows[0].reading.problems == first.rows[0].reading.problems
    assert (folder / "measured.json").is_file()


def test_a_model_that_was_trained_on_is_another_one(
    fields: dict[str, Any], policy_folder: Path, tmp_path: Path
) -> None:
    probe(plan_probe(fields), command="")
    weights = policy_folder / "model.safetensors"
    later = weights.stat().st_mtime_ns + 10**10
    os.utime(weights, ns=(later, later))
    probe(plan_probe(fields), command="")
    assert len(sampled(tmp_path / "out")) == 2


def test_an_interrupted_sweep_keeps_what_is_measured_and_goes_on(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = {**fields, "sweep": ["max_value=2:4"]}
    real = probe_module.evaluate_policy
    calls: list[int] = []

    def pressed_in_the_third(*arguments: Any) -> Evaluation:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(probe_module, "evaluate_policy", pressed_in_the_third)
    with pytest.raises(
        MaxRLError, match="interrupted with 2 of 3 settings measured; the same command goes on"
    ):
        probe(plan_probe(swept), command="")
    record = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert [row["fields"] for row in record["rows"]] == [{"max_value": 2}, {"max_value": 3}]
    assert (tmp_path / "out" / "probe.png").is_file()
    when = sampled(tmp_path / "out")
    result = probe(plan_probe(swept), command="")
    assert len(result.rows) == 3
    assert len(calls) == 4
    assert sampled(tmp_path / "out").items() > when.items()


def test_a_setting_that_fails_is_a_row(
    fields: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # With one step from random weights a pair up to 2 is found now and then, one up to 1000 never.
    monkeypatch.setenv("MAXRL_CACHE", str(tmp_path / "cache"))
    tiny = {
        **fields,
        "model_name_or_path": "tiny",
        "num_elements": 2,
        "tiny_layers": 1,
        "tiny_width": 16,
        "tiny_heads": 2,
        "tiny_kv_heads": 1,
        "tiny_feed_forward": 32,
        "warm_start_pass_rate": 0.001,
        "warm_start_max_steps": 1,
        "warm_start_batch_size": 16,
    }
    plan = plan_probe({**tiny, "sweep": ["max_value=2,1000"]})
    good, bad = probe(plan, command="", console=Console(force_terminal=False)).rows
    assert good.reading is not None
    assert (bad.reading, bad.fields) == (None, {"max_value": 1000})
    assert bad.error is not None
    assert "the warm start solved 0.000 of the problems" in bad.error
    out = capsys.readouterr().out
    assert "1/2: max_value=2" in out
    assert "2/2: max_value=1000" in out
    assert "failed: the warm start" in out
    with pytest.raises(MaxRLError, match="the warm start solved"):
        probe(plan_probe({**tiny, "max_value": 1000}), command="")


def row(own: dict[str, Any], correct: int | None) -> Row:
    """A row of a prompt that succeeded so often of eight times; None for one that failed."""
    if correct is None:
        return Row(fields=own, folder="", reading=None, error="it broke")
    problems = [ProblemCounts(id="a", scored=8, correct=correct)]
    reading = read_counts(problems, rollouts=[4], training=4, estimators={}, tiny=False)
    return Row(fields=own, folder="", reading=reading)


@pytest.mark.parametrize(
    "swept", [{}, {"a": [1, 2]}, {"a": [1], "b": ["x", "y"]}, {"a": [1], "b": [2], "c": [3, 4]}], ids=len
)
def test_every_kind_of_probe_has_its_picture(swept: dict[str, list[Any]], tmp_path: Path) -> None:
    """Where the first setting failed, too."""
    settings = probe_module.settings_of(swept)
    rows = [row(own, None if place < len(settings) - 1 else 3) for place, own in enumerate(settings)]
    result = Probe(
        command="", task="t", model="m", rollouts=4, estimators=(), over_batch=(), swept=swept, settings={},
        rows=tuple(rows), seconds=0.0, environment={},
    )  # fmt: skip
    path = tmp_path / "probe.png"
    write_plot(result, path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [left.name for left in tmp_path.iterdir()] == ["probe.png"]


def test_there_is_no_picture_of_nothing(tmp_path: Path) -> None:
    result = Probe(
        command="", task="t", model="m", rollouts=4, estimators=(), over_batch=(), swept={"a": [1]}, settings={},
        rows=(row({"a": 1}, None),), seconds=0.0, environment={},
    )  # fmt: skip
    write_plot(result, tmp_path / "probe.png")
    assert not (tmp_path / "probe.png").exists()

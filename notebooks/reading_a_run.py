# /// script
# requires-python = ">=3.11"
# dependencies = ["maxrl[notebooks]"]
#
# # For a clone of maxrl's repository: the package is that of the folder above this file.
# [tool.uv.sources]
# maxrl = { path = "..", editable = true }
#
# [tool.marimo.display]
# theme = "system"
# ///
"""What a run has left: marimo edit, marimo run, or python notebooks/reading_a_run.py -- --run FOLDER."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Reading a run")

with app.setup:
    import sys
    from pathlib import Path

    import marimo as mo

    from maxrl.errors import InputError
    from maxrl.experiments.notebooks import plots as pictures
    from maxrl.experiments.notebooks import run_view as view
    from maxrl.experiments.notebooks.flags import Kept, or_exit, read_flags
    from maxrl.experiments.store import find_runs


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Reading a run

    A run is a folder, and everything about it is in there: the resolved recipe (`config.yaml`), where and with what it was
    made (`environment.json`), a row for each log (`metrics.jsonl`) and for each generation (`diagnostics.jsonl`), the
    evaluations before and after with every completion (`eval.json`, `samples.jsonl`). This page reads them, of a run that
    is done as of one that is still going.
    """)
    return


@app.cell(hide_code=True)
def _():
    flags = or_exit(
        lambda: read_flags(
            sys.argv[1:],
            "reading_a_run.py",
            "A run's records: recipe, curves, groups by successes, pass@k, samples, environment.",
            {
                "run": ("runs", "a run's folder, or one that holds runs"),
                "samples": (6, "completions that the script prints"),
                "output_dir": (None, "folder for the pictures as SVG files; by default none are written"),
            },
        )
    )
    return (flags,)


@app.cell(hide_code=True)
def _(flags):
    folder = mo.ui.text(value=flags.run, label="folder", full_width=True)
    again = mo.ui.refresh(options=["5s", "30s"], label="read again")
    mo.hstack([folder, again], widths=[3, 1], wrap=True, gap=2)
    return again, folder


@app.cell(hide_code=True)
def _(again, folder):
    again  # noqa: B018 — a running run is read anew

    def look():
        return view.run_folders(find_runs([Path(folder.value).expanduser()]), Path(folder.value).expanduser())

    try:
        runs = or_exit(look) if mo.app_meta().mode == "script" else look()
    except InputError as error:
        mo.stop(True, mo.callout(mo.md(f"{error}"), kind="warn"))
    return (runs,)


@app.cell(hide_code=True)
def _():
    kept_run, kept_step = Kept(), Kept()  # through a new reading, which makes these controls anew
    return kept_run, kept_step


@app.cell(hide_code=True)
def _(kept_run, runs):
    which = mo.ui.dropdown(
        list(runs),
        value=kept_run.among(runs, next(iter(runs))),
        label="run",
        searchable=len(runs) > 8,
        on_change=kept_run.keep,
    )
    which if len(runs) > 1 else None
    return (which,)


@app.cell(hide_code=True)
def _(runs, which):
    run = runs[which.value]
    history = view.group_history(run)
    mo.md(f"## {run.name}\n\n{view.headline(run)}")
    return history, run


@app.cell(hide_code=True)
def _(run):
    success_figure = view.success_figure(run)
    curves = [
        success_figure,
        view.groups_figure(run),
        view.metric_figure(run, "entropy", "entropy, nats per token"),
        view.metric_figure(run, "grad_norm", "gradient norm"),
    ]
    mo.vstack(
        [
            mo.md(r"""
    ### Curves

    Only **live** groups train: some advantage of theirs is not zero. **Dead** groups have none and fail, **mastered** ones
    have none and succeed throughout. A falling entropy says that the policy narrows.
    """),
            mo.Html(pictures.side_by_side(*(one for one in curves if one))),
        ]
    )
    return (success_figure,)


@app.cell(hide_code=True)
def _(history, kept_step):
    first = 1 if history is None else int(history.steps[0])
    last = max(first + 1, 1 if history is None else int(history.steps[-1]))
    at = mo.ui.slider(
        first,
        last,
        value=kept_step.among(range(first, last + 1), first),
        label="step",
        show_value=True,
        full_width=True,
        on_change=kept_step.keep,
    )
    mo.vstack(
        [
            mo.md(r"""
    ### Groups by their successes

    How many of the $N$ rollouts of a prompt succeeded, $K$, over the groups around a step, against those of the whole run
    (dashed). Training moves groups from the left to the right; MaxRL gives those at $K = 1$ the largest weight.
    """),
            at if history is not None else mo.md("No generation has been counted yet."),
        ]
    )
    return (at,)


@app.cell(hide_code=True)
def _(at, history):
    groups_figures = [] if history is None else [make(history, at.value) for make in view.HISTORY_FIGURES]
    mo.Html(pictures.side_by_side(*groups_figures))
    return (groups_figures,)


@app.cell(hide_code=True)
def _(run):
    passes = view.pass_at_k_figure(run)
    mo.vstack(
        [
            mo.md("### Before and after"),
            mo.Html(
                pictures.side_by_side(
                    *([passes] if passes else []), pictures.table(*view.before_and_after(run))
                )
            ),
            mo.md(view.how_measured(run)),
        ]
    )
    return (passes,)


@app.cell(hide_code=True)
def _():
    when = mo.ui.dropdown(["after", "before"], value="after", label="training")
    verdict = mo.ui.dropdown(list(view.VERDICTS), value="all", label="verdict")
    containing = mo.ui.text(label="containing", placeholder="text of prompt or completion")
    mo.vstack(
        [
            mo.md(
                "### Samples\n\nEvery completion of the evaluation, with the verifier's verdict and its reason."
            ),
            mo.hstack([when, verdict, containing], wrap=True, justify="start", gap=2),
        ]
    )
    return containing, verdict, when


@app.cell(hide_code=True)
def _(containing, run, verdict, when):
    samples = view.sample_rows(run, when.value, verdict.value, containing.value)
    mo.vstack(
        [
            mo.md(f"{len(samples)} completions"),
            mo.ui.table(
                samples,
                selection=None,
                page_size=10,
                wrapped_columns=["prompt", "completion", "why"],
                show_data_types=False,
                show_column_summaries=False,
                show_download=False,
            )
            if samples
            else mo.md("None."),
        ]
    )
    return (samples,)


@app.cell(hide_code=True)
def _(run):
    mo.accordion(
        {
            "Recipe": mo.Html(pictures.table(["field", "value"], view.fact_rows(run.config), figures=False)),
            "Environment": mo.Html(pictures.table(["", ""], view.fact_rows(run.environment), figures=False)),
        }
    )
    return


@app.cell(hide_code=True)
def _(flags, groups_figures, passes, run, samples, success_figure):
    if mo.app_meta().mode == "script":
        print(view.in_text(run))
        for sample in samples[: flags.samples]:
            print(
                f"{sample['verdict']:<11} {sample['prompt']} {sample['completion']}   {sample['why']}".rstrip()
            )
        print("; ".join(f"{name} {value}" for name, value in run.environment.items()))
        if flags.output_dir:
            drawn = {"success": success_figure, "pass_at_k": passes}
            drawn |= dict(zip(("histogram", "history"), groups_figures, strict=False))
            for name, markup in drawn.items():
                if markup:
                    print(pictures.save_figure(markup, flags.output_dir / f"{name}.svg"))
    return


if __name__ == "__main__":
    app.run()
